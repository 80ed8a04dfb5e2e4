"""A plain abort stops its message even with a backend that consumes its signals."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from consuming_backend import Consuming, Store
from dramatiq.middleware import Middleware, MiddlewareError, Retries
from support import PATIENCE, run_forever, stub_broker, wait_for_request, wait_until

from dramatiq_abort import Abortable, Outcome, OutcomeState, UnsupportedByBackend, abort, abort_requested, shield
from dramatiq_abort._protocol.request import key_of
from dramatiq_abort._worker.spent_signals import SpentSignals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dramatiq.brokers.stub import StubBroker

pytestmark = pytest.mark.usefixtures("core")


class Failing(Middleware):
    """Fails the first attempt of a message if an abort of it is requested, before its function is called."""

    def __init__(self) -> None:
        self.waits = threading.Event()
        self._failed: set[str] = set()

    def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:
        if message.message_id not in self._failed:
            self._failed.add(message.message_id)
            self.waits.set()
            wait_for_request()
            raise MiddlewareError("failed by itself")


@pytest.fixture
def outcomes() -> SimpleQueue[Outcome]:
    return SimpleQueue()


@pytest.fixture
def backend() -> Consuming:
    """Return the worker's backend, which callers share."""
    return Consuming(Store())


@pytest.fixture
def abortable(backend: Consuming, outcomes: SimpleQueue[Outcome]) -> Abortable:
    return Abortable(backend=backend, on_outcome=outcomes.put)


@pytest.fixture
def broker(abortable: Abortable) -> Iterator[StubBroker]:
    broker = stub_broker(abortable)
    dramatiq.set_broker(broker)
    yield broker
    dramatiq.set_broker(None)  # type: ignore[arg-type]
    broker.close()


def states(outcomes: SimpleQueue[Outcome], count: int) -> list[OutcomeState]:
    return [outcomes.get(timeout=PATIENCE).state for _ in range(count)]


def test_a_message_that_is_delivered_again_does_not_take_the_signal(
    broker: StubBroker, backend: Consuming, outcomes: SimpleQueue[Outcome], start_worker: Callable[..., dramatiq.Worker]
) -> None:
    """A redelivered message does not poll while the first runs: the watcher stops both."""
    begun = threading.Semaphore(0)

    @dramatiq.actor
    def task() -> None:
        begun.release()
        run_forever()

    start_worker()
    backend.may_hear.clear()
    message = task.send()
    assert begun.acquire(timeout=PATIENCE)
    abort(message.message_id)
    broker.enqueue(message)
    assert begun.acquire(timeout=PATIENCE)
    backend.may_hear.set()

    assert states(outcomes, 1) == [OutcomeState.ABORTED]  # outcomes of the same state count as one
    broker.join("default", timeout=PATIENCE * 1000)


def test_a_message_that_is_delivered_again_is_skipped_with_the_first(
    broker: StubBroker, outcomes: SimpleQueue[Outcome], start_worker: Callable[..., dramatiq.Worker]
) -> None:
    """A redelivered message is skipped if the running one has consumed the signal."""
    started, asked, go_on = threading.Event(), threading.Event(), threading.Event()

    @dramatiq.actor
    def task() -> None:
        with shield():
            started.set()
            wait_for_request()
            asked.set()
            assert go_on.wait(PATIENCE)

    start_worker()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    assert asked.wait(PATIENCE)
    broker.enqueue(message)
    assert states(outcomes, 1) == [OutcomeState.SKIPPED]
    go_on.set()

    assert states(outcomes, 1) == [OutcomeState.ABORTED]


def test_a_message_that_fails_by_itself_is_not_retried(
    broker: StubBroker, outcomes: SimpleQueue[Outcome], start_worker: Callable[..., dramatiq.Worker]
) -> None:
    """The signal that a failed attempt consumed is sent again, so the retry is skipped."""
    failing = Failing()
    broker.add_middleware(Retries(min_backoff=1, max_backoff=1))
    broker.add_middleware(failing)

    @dramatiq.actor
    def task() -> None:
        run_forever()

    start_worker()
    message = task.send()
    assert failing.waits.wait(PATIENCE)
    abort(message.message_id)

    first, second = states(outcomes, 2)
    assert first is OutcomeState.FAILED
    assert second in {OutcomeState.SKIPPED, OutcomeState.ABORTED}


def test_a_signal_is_put_back_before_the_worker_stops(
    broker: StubBroker, backend: Consuming, outcomes: SimpleQueue[Outcome], start_worker: Callable[..., dramatiq.Worker]
) -> None:
    """A consumed signal is sent again before the worker stops, because the message may be retried elsewhere."""
    failing = Failing()
    broker.add_middleware(failing)

    @dramatiq.actor
    def task() -> None:
        run_forever()

    worker = start_worker()
    message = task.send()
    assert failing.waits.wait(PATIENCE)
    abort(message.message_id)
    assert states(outcomes, 1) == [OutcomeState.FAILED]
    worker.stop(timeout=PATIENCE * 1000)

    assert backend.poll(key_of(message.message_id))


def test_a_signal_that_comes_for_a_message_that_has_failed_is_put_back(
    broker: StubBroker,
    backend: Consuming,
    start_worker: Callable[..., dramatiq.Worker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A signal that was received while its message was failing is sent again."""
    started, go_on, failed = threading.Event(), threading.Event(), threading.Event()
    receive = backend.receive

    def receive_late(keys: Any, timeout: int) -> Any:
        received = receive(keys, timeout)
        if received is not None:
            go_on.set()
            assert failed.wait(PATIENCE)
        return received

    monkeypatch.setattr(backend, "receive", receive_late)

    class Watching(Middleware):
        def after_ack(self, broker: dramatiq.Broker, message: Any) -> None:
            failed.set()

    broker.add_middleware(Watching())

    @dramatiq.actor
    def task() -> None:
        started.set()
        assert go_on.wait(PATIENCE)
        raise RuntimeError("failed by itself")

    start_worker()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    assert failed.wait(PATIENCE)

    wait_until(lambda: backend.poll(key_of(message.message_id)), "the signal")


def test_what_is_asked_here_of_a_message_that_runs_here_takes_no_signal(
    broker: StubBroker, backend: Consuming, outcomes: SimpleQueue[Outcome], start_worker: Callable[..., dramatiq.Worker]
) -> None:
    """``abort_requested()`` consumes no signal; for a message that does not run here, the answer is unknown."""
    started = threading.Event()

    @dramatiq.actor
    def task() -> None:
        run_forever(started)

    start_worker()
    backend.may_hear.clear()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    assert abort_requested(message.message_id) is None
    backend.may_hear.set()
    assert states(outcomes, 1) == [OutcomeState.ABORTED]

    waits = task.message()
    abort(waits.message_id)
    with pytest.raises(UnsupportedByBackend, match="Consuming cannot be queried"):
        abort_requested(waits.message_id)
    broker.enqueue(waits)
    assert states(outcomes, 1) == [OutcomeState.SKIPPED]


def test_what_could_not_be_put_back_is_tried_again(backend: Consuming, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sending a signal again is retried while the backend is down."""
    spent = SpentSignals(backend, 60_000)
    spent.add(b"a")
    with monkeypatch.context() as broken:
        broken.setattr(backend, "notify", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            spent.put_back()
    spent.put_back()

    assert [backend.poll(b"a"), backend.poll(b"a")] == [True, False]
