"""Storms of aborts, in separate processes: all counters of violations are 0."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support import needs_interrupts, needs_threads, storm

if TYPE_CHECKING:
    from types import ModuleType

pytestmark = pytest.mark.newest_dependencies


#: The only counter that depends on the pace of the machine, too.
LATE = "aborts that did not come in a second"


@needs_threads
@needs_interrupts
@pytest.mark.timeout(180)
def test_a_storm_leaves_no_trace(core: ModuleType) -> None:
    """(1, 2, 3, 4) No violation occurs, whatever the messages, the order of middleware and other exceptions."""
    core_name = "python" if core.__name__.endswith("_py") else "cython"
    status, counters, output = storm("1600", "--rabbitmq", "--core", core_name)
    if {name for name, count in counters.items() if count} == {LATE}:
        status, counters, output = storm("1600", "--rabbitmq", "--core", core_name)

    assert set(counters.values()) == {0}, output
    assert status == 0
    assert int(re.findall(r"(\d+) raised", output)[0]) > 100
