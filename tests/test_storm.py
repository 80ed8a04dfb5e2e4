"""Storms of aborts, in processes of their own: what is counted is 0, and is not 0 where it is done the naive way."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import needs_interrupts

if TYPE_CHECKING:
    from types import ModuleType

pytestmark = needs_interrupts

STORM = Path(__file__).parent / "isolated" / "storm.py"

#: What the naive way shows in most storms, but not in each.
RARE = {
    "hooks that ran twice, or not at all",
    "worker threads lost",
    "messages completed and reported aborted",
    "messages aborted and run again",
    "locks left locked",
}


def storm(*words: str) -> tuple[int, dict[str, int], str]:
    """Return the exit status, the counters that are promised to be 0, and all that was printed."""
    finished = subprocess.run(
        [sys.executable, str(STORM), *words], capture_output=True, text=True, timeout=55, check=False
    )
    counters = re.findall(r"^  (\S.+?) +(\d+)$", finished.stdout, re.MULTILINE)
    return finished.returncode, {name: int(count) for name, count in counters}, finished.stdout + finished.stderr


def test_a_storm_leaves_no_trace(core: ModuleType) -> None:
    """(1, 2, 3, 4) Whatever the messages do, however the middleware is ordered, and with others' exceptions as well."""
    status, counters, output = storm("1600", "--core", "python" if core.__name__.endswith("_py") else "cython")

    assert set(counters.values()) == {0}, output
    assert status == 0
    assert int(re.findall(r"(\d+) raised", output)[0]) > 100


def test_the_naive_way_shows_what_the_counters_count() -> None:
    """Each of them can be something else than 0; in another storm, where one has wedged before it began."""
    zeros: set[str] | None = None
    for _ in range(3):
        status, counters, output = storm("800", "--naive")
        assert status == 1
        zero = {name for name, count in counters.items() if not count}
        zeros = zero if zeros is None else zeros & zero
        if zeros <= RARE:
            return
    pytest.fail(output)
