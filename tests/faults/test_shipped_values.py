"""The default patience and freshness: other tests change them, so that no busy machine affects them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from support import PATIENCE, result_of, wait_until

from dramatiq_abort import OutcomeState, wait_for_outcome

if TYPE_CHECKING:
    from fault_support import Bench
    from support import Server

pytestmark = [pytest.mark.main_interpreter, pytest.mark.newest_dependencies]


@pytest.fixture(autouse=True)
def patient_workers() -> None:
    """Keep the default patience."""


def test_messages_start_without_a_question(bench: Bench, own_server: Server) -> None:
    """(7) Messages start without a question for three of the watcher's waits; slow machines have more tries."""
    bench.abort(bench.quick.message())  # so that a tombstone is live
    with own_server.client() as client:

        def calls() -> Counter[str]:
            statistics: dict[str, Any] = client.info("commandstats")  # type: ignore[assignment]
            return Counter({name: command["calls"] for name, command in statistics.items()})

        def asks_nothing() -> bool:
            before = calls()
            while (new := calls() - before)["cmdstat_xread"] < 4:  # the first of them may have begun earlier
                assert bench.runs_now(bench.quick.message()) == "ran"
            return set(new) <= {"cmdstat_xread", "cmdstat_info"}

        assert any(asks_nothing() for _ in range(10))


def test_a_server_that_stands_still_is_noticed(bench: Bench, own_server: Server) -> None:
    """(5, 6) With an unresponsive server, messages start; later requests take effect and have outcomes."""
    running = bench.start_endless()
    with own_server.stopped():
        wait_until(lambda: "ERROR" in bench.log(), "the log line")
        assert bench.runs_now(bench.quick.message()) == "ran"
    bench.abort(running)
    assert result_of(running)[0] == "Abort"
    outcome = wait_for_outcome(running.message_id, bench.requester, timeout=PATIENCE * 1000)

    assert outcome.state is OutcomeState.ABORTED
    wait_until(lambda: bench.log()[-1] == "INFO", "the end of the outage in the log")
