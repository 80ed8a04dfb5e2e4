"""Bulk aborts by id: what can be aborted, delayed messages, and the progress of a failed call."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq import group, pipeline
from dramatiq.results import ResultTimeout
from support import result_of, wait_until

from dramatiq_abort import Abortable, BackendError, abort
from dramatiq_abort._protocol.event import MAX_EVENTS, Event
from dramatiq_abort._protocol.request import key_of
from dramatiq_abort.backends import StubBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dramatiq.brokers.stub import StubBroker

    from dramatiq_abort import EventBackend

HOUR = 3_600_000


class Recording(StubBackend):
    """Records the signaled events, and fails after a number of them."""

    def __init__(self, enough: int = 10**9) -> None:
        super().__init__()
        self.steps: list[int] = []
        self.events: list[Event] = []
        self._enough = enough

    def signal(self, events: Iterable[Event]) -> None:
        step = list(events)
        if len(self.events) + len(step) > self._enough:
            raise ConnectionError("gone")
        self.steps.append(len(step))
        self.events += step


@dramatiq.actor(broker=dramatiq.brokers.stub.StubBroker())
def task() -> None: ...


def message(number: int) -> dramatiq.Message[Any]:
    return task.message().copy(message_id=str(number))


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(lambda: ["1", "2", "3"], id="ids"),
        pytest.param(lambda: (str(number) for number in (1, 2, 3)), id="a generator of ids"),
        pytest.param(lambda: [message(1), "2", message(3)], id="messages and ids"),
        pytest.param(lambda: group([message(1), message(2), message(3)], broker=task.broker), id="a group"),
        pytest.param(lambda: message(1) | message(2) | message(3), id="a pipeline"),
        pytest.param(
            lambda: group([message(1), message(2) | message(3)], broker=task.broker), id="a pipeline in a group"
        ),
        pytest.param(lambda: [[message(1)], pipeline([message(2)], broker=task.broker), {"3": 0}.keys()], id="nested"),
        pytest.param(lambda: [dramatiq.broker.MessageProxy(message(1)), "2", "3"], id="what a middleware is given"),
    ],
)
def test_whatever_has_messages_can_be_aborted(what: Callable[[], Any]) -> None:
    """Messages, groups, pipelines, ids and iterables of them are aborted in order."""
    backend = Recording()

    abort(what(), Abortable(backend=backend))

    assert [event.key for event in backend.events] == [key_of("1"), key_of("2"), key_of("3")]


@pytest.mark.parametrize("wrong", [b"1", 1, None, {"1": 2}, ["1", 2], ["1", b"2"], ["1", ""], ["1", "x" * 1000]])
def test_one_that_is_wrong_among_many_aborts_none(wrong: Any) -> None:
    """One wrong target raises an error before any message is aborted."""
    backend = Recording()

    with pytest.raises((TypeError, ValueError), match="message id"):
        abort(wrong, Abortable(backend=backend))

    assert backend.events == []


def test_nothing_is_aborted_in_no_time() -> None:
    """Without targets, no request is made."""
    backend = Recording(enough=-1)

    abort([], Abortable(backend=backend))

    assert backend.events == []


def test_many_are_asked_for_in_bounded_steps() -> None:
    """Requests are sent in steps of limited size, so that no step blocks a server for long."""
    backend = Recording()

    abort(map(str, range(2 * MAX_EVENTS + 1)), Abortable(backend=backend))

    assert backend.steps == [MAX_EVENTS, MAX_EVENTS, 1]


def test_a_failure_says_how_far_it_came() -> None:
    """A failure reports its progress in words and as a number, so that the rest can be requested again."""
    backend = Recording(enough=2 * MAX_EVENTS)
    ids = [str(number) for number in range(3 * MAX_EVENTS)]

    with pytest.raises(BackendError) as failed:
        abort(ids, Abortable(backend=backend))

    assert failed.value.completed == len(backend.events) == 2 * MAX_EVENTS
    assert str(failed.value) == (
        f"{2 * MAX_EVENTS} of {3 * MAX_EVENTS} messages were aborted; message {2 * MAX_EVENTS} was not aborted, "
        "nor were those after it: ConnectionError: gone"
    )
    assert isinstance(failed.value.__cause__, ConnectionError)


def test_a_delayed_message_is_aborted_for_its_delay_and_longer() -> None:
    """A delayed message's time to live counts from its start; for a bare id, the delay is unknown."""
    backend = Recording()
    middleware = Abortable(backend=backend, abort_ttl=90_000)
    delayed = message(1).copy(options={"eta": int(time.time() * 1000) + HOUR})
    late = message(2).copy(options={"eta": int(time.time() * 1000) - HOUR})

    abort([delayed, late, "3"], middleware)

    delayed_ttl, late_ttl, id_ttl = (event.ttl or 0 for event in backend.events)
    assert 90_000 + HOUR - 60_000 < delayed_ttl <= 90_000 + HOUR
    assert late_ttl == id_ttl == 90_000


@pytest.mark.slow
def test_a_message_that_is_delayed_beyond_the_time_to_live_is_skipped(
    broker: StubBroker, start_worker: Any, backend: EventBackend
) -> None:
    """(5) A message whose delay exceeds the time to live is skipped."""

    @dramatiq.actor
    def delayed_task() -> str:
        return "ran"

    start_worker()
    delayed = delayed_task.send_with_options(delay=2_500)
    abort(delayed, abort_ttl=2_000)
    by_id = delayed_task.message()
    abort(by_id.message_id, abort_ttl=2_000)
    broker.enqueue(by_id, delay=2_500)

    assert result_of(delayed) is None
    assert result_of(by_id) == "ran"


def test_a_pipeline_that_is_aborted_goes_no_further(broker: StubBroker, start_worker: Any) -> None:
    """(4) An aborted pipeline skips its first message and enqueues no other, so the last one has no result."""
    ran = []

    @dramatiq.actor
    def step(*_: object) -> None:
        ran.append("step")

    @dramatiq.actor
    def other() -> str:
        return "ran"

    steps = step.message() | step.message()
    abort(steps)
    steps.run()
    start_worker()

    assert result_of(other.send()) == "ran"
    wait_until(lambda: not broker.queues["default"].unfinished_tasks)
    assert ran == []
    assert result_of(steps.messages[0]) is None
    with pytest.raises(ResultTimeout):
        steps.get_result(block=True, timeout=1)
