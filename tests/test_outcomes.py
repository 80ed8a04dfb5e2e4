"""Outcomes of messages: wait_for_outcome() and related functions."""

from __future__ import annotations

import asyncio
import dataclasses
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.middleware import AgeLimit, AsyncIO, Middleware, MiddlewareError, SkipMessage
from support import PATIENCE, result_of, run_forever, running_in, wait_until, wait_until_requested

from dramatiq_abort import (
    Abort,
    Abortable,
    AbortMode,
    Outcome,
    OutcomeState,
    Reply,
    UnsupportedByBackend,
    abort,
    restore,
    shield,
    wait_for_outcome,
    wait_for_outcome_async,
    wait_for_outcomes,
)
from dramatiq_abort._protocol.outcome import outcome_key
from dramatiq_abort._worker.inspection import worker_name

if TYPE_CHECKING:
    from dramatiq.brokers.stub import StubBroker

    from dramatiq_abort import EventBackend

LONG = PATIENCE * 1000


def test_of_a_message_that_waits(broker: StubBroker, start_worker: Any) -> None:
    """A waiting message is pending until a worker receives it."""

    @dramatiq.actor
    def task() -> None:
        raise AssertionError

    before = int(time.time() * 1000)
    message = task.send()
    abort(message.message_id, reason="not wanted", by="me")
    assert wait_for_outcome(message.message_id, timeout=1).state is OutcomeState.PENDING
    assert not wait_for_outcome(message.message_id, timeout=0).is_known
    start_worker()
    outcome = wait_for_outcome(message.message_id, timeout=LONG)

    assert outcome.message_id == message.message_id
    assert outcome.state is OutcomeState.SKIPPED
    assert (outcome.actor, outcome.worker, outcome.exception) == ("task", worker_name(), None)
    assert (outcome.reason, outcome.by) == ("not wanted", "me")
    assert outcome.started is outcome.latency is None
    assert outcome.enqueued == message.message_timestamp
    assert outcome.requested is not None
    assert outcome.ended is not None
    assert before <= outcome.requested <= outcome.ended + 1 <= time.time() * 1000 + 1


def test_of_a_message_that_runs(broker: StubBroker, start_worker: Any) -> None:
    """A running message's outcome includes the duration of its abort."""
    started = threading.Event()

    @dramatiq.actor
    def task() -> None:
        run_forever(started)

    start_worker()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, reason="enough")
    outcome = wait_for_outcome(message.message_id, timeout=LONG)

    assert outcome.state is OutcomeState.ABORTED
    assert outcome.exception is outcome.by is None
    assert outcome.reason == "enough"
    assert outcome.latency is not None
    assert outcome.started is not None
    assert outcome.requested is not None
    assert outcome.ended is not None
    assert outcome.started <= outcome.requested + 1
    assert outcome.requested <= outcome.ended + 1


def test_of_a_message_that_fails(broker: StubBroker, start_worker: Any) -> None:
    """The outcome of a message that fails includes the exception that it raised instead."""
    started = threading.Event()

    @dramatiq.actor
    def task() -> None:
        try:
            run_forever(started)
        except Abort:
            raise KeyError from None

    start_worker()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    outcome = wait_for_outcome(message.message_id, timeout=LONG)

    assert (outcome.state, outcome.exception, outcome.latency) == (OutcomeState.FAILED, "KeyError", None)


@pytest.mark.parametrize("what", ["in its grace period", "it catches Abort", "cancelled too late"])
def test_of_a_message_that_completes_in_spite_of_it(
    broker: StubBroker, start_worker: Any, abortable: Abortable, what: str
) -> None:
    """A message that completes despite a request is not reported as aborted."""
    started, asked = threading.Event(), threading.Event()

    @dramatiq.actor
    def task() -> None:
        if what == "it catches Abort":
            with pytest.raises(Abort):
                run_forever(started)
        else:
            started.set()
            assert asked.wait(PATIENCE)

    start_worker()
    message = task.send()
    assert started.wait(PATIENCE)
    if what == "in its grace period":
        abort(message.message_id, abort_timeout=LONG)
        wait_until_requested(abortable, message)
    else:
        abort(message.message_id, mode=AbortMode.CANCEL if what == "cancelled too late" else AbortMode.ABORT)
    asked.set()
    outcome = wait_for_outcome(message.message_id, timeout=LONG)

    assert outcome.state is OutcomeState.COMPLETED


def test_of_a_message_that_has_completed(broker: StubBroker, start_worker: Any) -> None:
    """A worker remembers that a message completed before the request."""

    @dramatiq.actor
    def task() -> int:
        return 1

    start_worker()
    message = task.send()
    assert result_of(message) == 1
    broker.join("default")
    abort(message.message_id, reason="late")
    outcome = wait_for_outcome(message.message_id, timeout=LONG)

    assert (outcome.state, outcome.reason) == (OutcomeState.COMPLETED, "late")
    assert outcome.ended is not None
    assert outcome.requested is not None
    assert outcome.ended <= outcome.requested + 1


@pytest.mark.parametrize("what", ["failed", "skipped by others", "nobody asked"])
def test_nothing_is_claimed_of_what_was_not_seen(broker: StubBroker, start_worker: Any, what: str) -> None:
    """No outcome is reported for a message that failed before the request, or without a request."""

    class Skip(Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            if message.actor_name == "task" and what == "skipped by others":
                raise SkipMessage

    broker.add_middleware(Skip())

    @dramatiq.actor(max_retries=0)
    def task() -> None:
        if what == "failed":
            raise KeyError

    @dramatiq.actor
    def behind() -> None:
        pass

    start_worker(worker_threads=1)
    message, last = task.send(), behind.send()
    result_of(last)
    broker.join("default")
    if what != "nobody asked":
        abort(message.message_id)
    abort(last.message_id)

    assert wait_for_outcome(last.message_id, timeout=LONG).state is OutcomeState.COMPLETED
    assert wait_for_outcome(message.message_id, timeout=0).state is OutcomeState.PENDING


class InFront(Middleware):
    """Ends the messages of the actor ``task``, and of an unknown one, before they start."""

    def __init__(self, way: str) -> None:
        self._way = way
        self.reached, self.go_on = threading.Event(), threading.Event()

    def before_process_message(self, broker: Any, message: Any) -> None:
        if message.actor_name != "task":
            return
        self.reached.set()
        assert self.go_on.wait(PATIENCE)
        if self._way in {"it is failed", "it is failed and skipped"}:
            message.fail()
        if self._way in {"it is skipped", "it is failed and skipped"}:
            raise SkipMessage
        if self._way == "it is an error":
            raise MiddlewareError


@pytest.mark.usefixtures("core")
@pytest.mark.parametrize("where", ["in front", "behind"])
@pytest.mark.parametrize("way", ["it is skipped", "it is failed", "it is failed and skipped", "it is an error"])
def test_of_a_message_that_another_middleware_ends(
    broker: StubBroker, start_worker: Any, abortable: Abortable, where: str, way: str
) -> None:
    """A requested message that another middleware ends before its start was skipped, and on_abort is sent."""
    other = InFront(way)
    broker.add_middleware(other, **({"before": Abortable} if where == "in front" else {}))
    told: queue.SimpleQueue[str] = queue.SimpleQueue()

    @dramatiq.actor(abortable=False)
    def tidy_up(message: dict[str, Any], outcome: dict[str, Any]) -> None:
        told.put(outcome["state"])

    @dramatiq.actor(max_retries=0, on_abort="tidy_up")
    def task() -> None:
        raise AssertionError

    start_worker()
    message = task.send()
    assert other.reached.wait(PATIENCE)
    abort(message.message_id, reason="enough")
    if where == "behind":
        wait_until_requested(abortable, message)
    other.go_on.set()
    outcome = wait_for_outcome(message.message_id, timeout=LONG)

    is_error = where == "behind" and way == "it is an error"  # of a received message
    assert outcome.state is (OutcomeState.FAILED if is_error else OutcomeState.SKIPPED)
    assert (outcome.actor, outcome.reason) == ("task", "enough")
    assert is_error or told.get(timeout=PATIENCE) == "skipped"


@pytest.mark.parametrize("position", ["first", "last"])
def test_of_a_message_that_is_too_old(broker: StubBroker, start_worker: Any, position: str) -> None:
    """A message skipped by AgeLimit, at any position, has the outcome skipped."""
    broker.middleware[:] = [each for each in broker.middleware if not isinstance(each, AgeLimit)]
    broker.add_middleware(
        AgeLimit(max_age=1), **({"before": type(broker.middleware[0])} if position == "first" else {})
    )

    @dramatiq.actor
    def task() -> None:
        raise AssertionError

    messages = [task.send_with_options() for _ in range(2)]
    broker.flush(task.queue_name)
    abort(messages[0].message_id)
    for message in messages:
        broker.enqueue(dataclasses.replace(message, message_timestamp=0))
    start_worker()
    outcome = wait_for_outcome(messages[0].message_id, timeout=LONG)
    broker.join("default")

    assert outcome.state is OutcomeState.SKIPPED
    assert wait_for_outcome(messages[1].message_id, timeout=0).state is OutcomeState.PENDING


def test_of_a_message_whose_actor_is_not_there(broker: StubBroker, start_worker: Any) -> None:
    """A message that the broker rejects for its unknown actor has an outcome only if requested."""

    @dramatiq.actor
    def task() -> None: ...

    messages = [task.message().copy(actor_name="gone") for _ in range(2)]
    abort(messages[0].message_id)
    for message in messages:
        broker.enqueue(message)
    start_worker()
    outcome = wait_for_outcome(messages[0].message_id, timeout=LONG)
    broker.join("default")

    assert (outcome.state, outcome.actor) == (OutcomeState.SKIPPED, "gone")
    assert len(broker.dead_letters) == 2
    assert wait_for_outcome(messages[1].message_id, timeout=0).state is OutcomeState.PENDING


@pytest.mark.parametrize("ends", ["aborted", "failed"])
def test_a_message_that_was_taken_is_told_of_once(
    broker: StubBroker, start_worker: Any, abortable: Abortable, ends: str
) -> None:
    """A received message that the broker then rejects has a single outcome."""
    started = threading.Event()
    outcomes: list[Outcome] = []
    abortable.on_outcome = outcomes.append

    @dramatiq.actor(max_retries=0)
    def task() -> None:
        try:
            run_forever(started)
        except Abort:
            if ends == "failed":
                raise KeyError from None
            raise

    start_worker()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    wait_until(lambda: broker.dead_letters, "its rejection")
    broker.join("default")

    assert [outcome.state.value for outcome in outcomes] == [ends]


def test_what_is_restored_has_none(broker: StubBroker, start_worker: Any, abortable: Abortable) -> None:
    """A restored message has no outcome."""
    started, restored = threading.Event(), threading.Event()

    @dramatiq.actor
    def task() -> None:
        with shield():
            started.set()
            assert restored.wait(PATIENCE)

    @dramatiq.actor
    def behind() -> None:
        pass

    start_worker(worker_threads=1)
    message, last = task.send(), behind.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    assert restore(message.message_id)
    wait_until(lambda: all(running.request is None for running in running_in(abortable).all()))
    restored.set()
    result_of(last)
    abort(last.message_id)

    assert wait_for_outcome(last.message_id, timeout=LONG).state is OutcomeState.COMPLETED
    assert wait_for_outcome(message.message_id, timeout=0).state is OutcomeState.PENDING


def test_of_a_coroutine(broker: StubBroker, start_worker: Any) -> None:
    """A coroutine's message has the same outcomes."""
    broker.add_middleware(AsyncIO())
    started = threading.Event()

    @dramatiq.actor
    async def task() -> None:
        started.set()
        await asyncio.Event().wait()

    start_worker()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert wait_for_outcome(message.message_id, timeout=LONG).state is OutcomeState.ABORTED


def test_a_coroutine_waits_for_it(broker: StubBroker, start_worker: Any) -> None:
    """A coroutine waits for an outcome without blocking its loop."""

    @dramatiq.actor
    def task() -> None:
        raise AssertionError

    message = task.send()
    abort(message.message_id)

    async def main() -> tuple[OutcomeState, OutcomeState]:
        pending = await wait_for_outcome_async(message.message_id, timeout=1)
        waiting = asyncio.create_task(wait_for_outcome_async(message.message_id, timeout=LONG))
        await asyncio.sleep(0)
        start_worker()
        return pending.state, (await waiting).state

    assert asyncio.run(main()) == (OutcomeState.PENDING, OutcomeState.SKIPPED)


def test_of_many(broker: StubBroker, start_worker: Any) -> None:
    """Outcomes of many messages are yielded as soon as they are known, the pending ones last."""

    @dramatiq.actor
    def task() -> None:
        raise AssertionError

    start_worker()
    messages = [task.message() for _ in range(250)]
    abort(messages)
    for message in messages:
        broker.enqueue(message)
    ids = [message.message_id for message in messages]
    assert sorted(outcome.message_id for outcome in wait_for_outcomes(ids, timeout=LONG)) == sorted(ids)
    outcomes = list(wait_for_outcomes(["unknown", *ids], timeout=0))

    assert outcomes[-1].message_id == "unknown"
    assert outcomes[-1].state is OutcomeState.PENDING
    assert {outcome.state for outcome in outcomes[:-1]} == {OutcomeState.SKIPPED}


def test_a_worker_that_stops_tells_first(broker: StubBroker, start_worker: Any, backend: EventBackend) -> None:
    """A worker that stops has written its outcomes to the reply store."""

    @dramatiq.actor
    def task() -> None:
        raise AssertionError

    message = task.send()
    abort(message.message_id)
    worker = start_worker()
    broker.join("default")
    worker.stop(timeout=LONG)

    assert wait_for_outcome(message.message_id, timeout=0).state is OutcomeState.SKIPPED
    assert backend.reply_store is not None
    assert backend.reply_store.workers() == []


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (b'{"state":"aborted","latency":NaN,"ended":1e999,"started":true,"worker":[],"actor":"a"}', {"actor": "a"}),
        (b'{"state":"aborted","requested":1%s,"latency":1.5,"new":{}}' % (b"0" * 400), {"latency": 1.5}),
    ],
)
def test_what_cannot_be_is_left_out(text: bytes, known: dict[str, Any]) -> None:
    """Impossible replies are ignored: any program can write there."""
    assert Outcome.decode("x", text) == Outcome("x", OutcomeState.ABORTED, **known)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"state":"done"}', b'{"state":[]}', b"[" * 5000, b" " * 9000 + b"{}"]
)
def test_what_is_no_outcome_is_none(broker: StubBroker, backend: EventBackend, text: bytes) -> None:
    """A reply that is not an outcome leaves the message's outcome unknown."""
    assert backend.reply_store is not None
    backend.reply_store.put([Reply(outcome_key("x"), text, LONG)])

    assert wait_for_outcome("x", timeout=LONG) == Outcome("x")


def test_a_backend_without_a_board_says_so(broker: StubBroker, backend: EventBackend, monkeypatch: Any) -> None:
    """A backend without a reply store is reported, and aborts work without it."""
    monkeypatch.setattr(backend, "reply_store", None)

    with pytest.raises(UnsupportedByBackend, match="has no reply store"):
        wait_for_outcome("x")


@pytest.mark.parametrize(
    ("message_id", "timeout", "error"),
    [(1, 1, TypeError), ("", 1, ValueError), ("x", 0.5, TypeError), ("x", -1, ValueError)],
)
@pytest.mark.usefixtures("broker")
def test_what_cannot_be_asked_is_refused(message_id: Any, timeout: Any, error: type[Exception]) -> None:
    """Invalid arguments raise at once."""
    with pytest.raises(error):
        wait_for_outcome(message_id, timeout=timeout)
    with pytest.raises(error):
        asyncio.run(wait_for_outcome_async(message_id, timeout=timeout))
