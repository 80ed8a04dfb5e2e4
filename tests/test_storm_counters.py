"""Each counter of a storm can become nonzero: with the naive implementation, or by an injected fault."""

from __future__ import annotations

import pytest
from support import needs_interrupts, needs_threads, storm

pytestmark = [pytest.mark.main_interpreter, pytest.mark.newest_dependencies]

#: Counters that the naive implementation moves only in most storms: each also has a fault of its own.
RARE = {
    "hooks that ran twice, or not at all",
    "worker threads lost",
    "messages completed and reported aborted",
    "messages aborted and run again",
    "locks left locked",
    "messages lost on RabbitMQ",  # only where RabbitMQ is used
}


@needs_threads
@needs_interrupts
@pytest.mark.timeout(180)
def test_the_naive_way_shows_what_the_counters_count() -> None:
    """The naive implementation moves each common counter; a storm that hangs early is repeated."""
    zeros: set[str] | None = None
    for _ in range(5):
        status, counters, output = storm("800", "--naive")
        assert status == 1
        zero = {name for name, count in counters.items() if not count}
        zeros = zero if zeros is None else zeros & zero
        if zeros <= RARE:
            return
    pytest.fail(output)


@needs_threads
@needs_interrupts
@pytest.mark.timeout(180)
@pytest.mark.parametrize("counter", sorted(RARE))
def test_a_fault_is_counted(counter: str) -> None:
    """A single fault in an otherwise normal storm is counted once."""
    status, counters, output = storm(counter, program="storm_faults.py")

    assert counters[counter] == 1, output
    assert status == 1
