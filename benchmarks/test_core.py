"""Measure a scope, a shield, an interrupt and a message with each core, and their counterparts without this package.

``make bench`` runs these, with TIMES repetitions per round. They have no limits; ``ratios.py`` and ``gate.py`` do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import operations as of
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

#: Repetitions per round: enough to make the overhead of the round negligible.
TIMES = 1_000

#: The operations of each comparison, with their cores: "-" for an operation that does not use this package.
GROUPS: dict[str, dict[Callable[[], of.Repeated], list[str]]] = {
    "a call": {of.bare_call: ["-"], of.scope: ["cython", "python"]},
    "a shield": {of.shield: ["cython", "python"]},
    "an interrupt, and all that follows": {
        of.bare_raise: ["-"],
        of.dramatiq_interrupt: ["-"],
        of.scope_interrupt: ["cython", "python"],
    },
    "an interrupt, the setting alone": {
        of.bare_taking_out: ["-"],
        of.dramatiq_setting: ["-"],
        of.scope_setting: ["cython"],
    },
    "a message": {of.message: ["cython", "python"]},
}


@pytest.mark.parametrize(
    ("group", "operation", "core"),
    [
        pytest.param(group, operation, core, id=f"{operation.__name__} {core}")
        for group, operations in GROUPS.items()
        for operation, cores in operations.items()
        for core in cores
    ],
)
def test(group: str, operation: Callable[[], of.Repeated], core: str, benchmark: BenchmarkFixture) -> None:
    """Measure one operation, grouped with those that it is compared with."""
    benchmark.group = f"{group}, {TIMES} times"
    benchmark(of.prepared(operation, "cython" if core == "-" else core), TIMES)
