"""Guarantee 8, any order: the guarantees hold at any position of the middleware and time of its addition."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.middleware import Middleware, Retries, SkipMessage
from support import PATIENCE, result_of, run_forever, stub_broker, working

from dramatiq_abort import Abort, Abortable, EventBackend, OutcomeState, abort, wait_for_outcome

if TYPE_CHECKING:
    from dramatiq import Broker
    from dramatiq.results import Results


pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.sanitized]


@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize("declared", ["before", "after"])
def test_it_holds_in_any_order(backend: EventBackend, results: Results, where: str, declared: str) -> None:
    """(8) Aborts work at any position of the middleware, with actors declared before or after its addition."""
    broker = stub_broker(Retries(min_backoff=1, max_backoff=1), results)
    dramatiq.set_broker(broker)
    started = threading.Event()
    calls: list[str] = []

    def declare() -> Any:
        @dramatiq.actor
        def task() -> None:
            calls.append("task")
            try:
                run_forever(started)
            except Abort:
                raise ValueError from None

        return task

    task = declare() if declared == "before" else None
    if where == "first":
        broker.add_middleware(Abortable(backend=backend), before=Retries)
    else:
        broker.add_middleware(Abortable(backend=backend))
    task = task or declare()
    with working(broker) as worker:
        running, waiting = task.send(), task.message()
        abort(waiting.message_id)
        broker.enqueue(waiting)
        assert started.wait(PATIENCE)
        abort(running.message_id)
        outcomes = result_of(running)[0], result_of(waiting)
        worker.join()

    assert outcomes == ("Abort", None)
    assert calls == ["task"]


class Keeps(Middleware):
    """Keeps data from the start of a message to its end, as a tracing middleware does."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def before_process_message(self, broker: Broker, message: Any) -> None:
        message.kept = message.message_id

    def after_process_message(self, broker: Broker, message: Any, **_: object) -> None:
        self.ended.append(message.kept)

    after_skip_message = after_process_message


class Breaks(Middleware):
    """Raises in a hook of each message, which dramatiq logs."""

    def before_process_message(self, broker: Broker, message: Any) -> None:
        raise ValueError("broken")


@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize("fails", [True, False])
def test_all_are_told_of_a_message_that_is_skipped(
    results: Results, where: str, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """(8) Other middleware sees the start and end of a skipped message; an exception in its hooks is only logged."""
    keeps = Keeps()
    broker = stub_broker(Breaks(), keeps, results)
    broker.add_middleware(Abortable(fail_skipped=fails), **({"before": Breaks} if where == "first" else {}))
    dramatiq.set_broker(broker)

    @dramatiq.actor
    def task() -> None:
        raise AssertionError

    message = task.send()
    abort(message.message_id)
    with working(broker) as worker:
        result = result_of(message)
        worker.join()

    assert (result[0] if fails else result) == ("AbortedBeforeStart" if fails else None)
    assert keeps.ended == [message.message_id]
    critical = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert [str(record.exc_info[1]) for record in critical if record.exc_info] == ["broken"]


def test_another_may_skip_what_is_skipped(results: Results, caplog: pytest.LogCaptureFixture) -> None:
    """(8) A later middleware may skip a message that is to be aborted, and its choice prevails."""

    class Skips(Middleware):
        def before_process_message(self, broker: Broker, message: Any) -> None:
            message.fail()
            raise SkipMessage("by another")

    broker = stub_broker(Abortable(), Skips(), results)
    dramatiq.set_broker(broker)

    @dramatiq.actor
    def task() -> None:
        raise AssertionError

    message = task.send()
    abort(message.message_id)
    with working(broker):
        result = result_of(message)
        state = wait_for_outcome(message.message_id, timeout=PATIENCE * 1000).state

    assert (result, state) == (("SkipMessage", "by another"), OutcomeState.SKIPPED)
    assert not [record for record in caplog.records if record.levelname == "CRITICAL"]
