"""restore() of an abort before the message was stopped."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from support import PATIENCE, result_of, run_forever, stub_broker, wait_until

from dramatiq_abort import AbortMode, BackendError, abort, abort_requested, restore, shield
from dramatiq_abort._protocol.request import AbortRequest
from dramatiq_abort._worker.execution import Execution
from dramatiq_abort.backends import StubBackend
from dramatiq_abort.interrupt import InterruptResult

if TYPE_CHECKING:
    from dramatiq.brokers.stub import StubBroker

    from dramatiq_abort import Abortable

pytestmark = pytest.mark.usefixtures("core")


@pytest.mark.parametrize("mode", AbortMode)
def test_a_waiting_message_that_is_restored_runs(broker: StubBroker, start_worker: Any, mode: AbortMode) -> None:
    """A restored waiting message runs, and restore() returns whether a request existed."""

    @dramatiq.actor
    def task() -> str:
        return "ran"

    message = task.send()
    assert restore(message.message_id) is False
    abort(message.message_id, mode=mode)
    assert restore(message.message_id) is True
    assert restore(message.message_id) is False
    assert abort_requested(message.message_id) is None
    start_worker()

    assert result_of(message) == "ran"


def test_one_that_a_worker_knows_of_is_restored(broker: StubBroker, start_worker: Any) -> None:
    """A request is also removed from a worker's memory."""
    started, go_on = threading.Event(), threading.Event()

    @dramatiq.actor(queue_name="first")
    def holds_the_worker() -> None:
        started.set()
        assert go_on.wait(PATIENCE)

    @dramatiq.actor(queue_name="second")
    def task() -> str:
        return "ran"

    start_worker(worker_threads=1)
    holds_the_worker.send()
    assert started.wait(PATIENCE)
    message = task.send()
    abort(message.message_id)
    assert restore(message.message_id) is True
    wait_until(lambda: abort_requested(message.message_id) is None)
    go_on.set()

    assert result_of(message) == "ran"


def test_a_running_message_is_restored_in_its_grace_period(worker: dramatiq.Worker) -> None:
    """A message restored in its grace period sees the request, then none."""
    started, seen = threading.Event(), threading.Event()

    @dramatiq.actor
    def task() -> str:
        started.set()
        wait_until(lambda: abort_requested() is not None)
        seen.set()
        wait_until(lambda: abort_requested() is None)
        return "went on"

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, abort_timeout=1000 * PATIENCE)
    assert seen.wait(PATIENCE)
    assert restore(message.message_id) is True

    assert result_of(message) == "went on"


def test_a_running_message_is_restored_behind_its_shield(worker: dramatiq.Worker) -> None:
    """A restored abort that waits for the end of a shield is not raised."""
    started, seen = threading.Event(), threading.Event()

    @dramatiq.actor
    def task() -> str:
        with shield():
            started.set()
            wait_until(lambda: abort_requested() is not None)
            seen.set()
            wait_until(lambda: abort_requested() is None)
        return "went on"

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    assert seen.wait(PATIENCE)
    assert restore(message.message_id) is True

    assert result_of(message) == "went on"


def test_a_message_is_not_interrupted_while_it_is_restored() -> None:
    """An interrupt concurrent with restore() either comes first or does not happen."""

    class Slow:
        """A scope in which a request can be restored while the interrupt is in progress."""

        due: object = None

        def interrupt(self, exception: object) -> InterruptResult:
            restoring.start()
            restoring.join(0.2)
            self.due = exception
            return InterruptResult.DEFERRED

        def revoke(self) -> bool:
            self.due = None
            return True

    @dramatiq.actor(broker=stub_broker())
    def task() -> None: ...

    scope: Any = Slow()
    message = Execution(task.message(), scope)
    message.accept(AbortRequest(), None)
    restoring = threading.Thread(target=message.restore)
    assert message.interrupt() is InterruptResult.DEFERRED
    restoring.join(PATIENCE)

    assert scope.due is None
    assert message.interrupt() is InterruptResult.CLOSED


def test_a_message_that_is_aborted_once_more_is_aborted(worker: dramatiq.Worker) -> None:
    """A new request after restore() takes effect."""
    started, seen = threading.Event(), threading.Event()

    @dramatiq.actor
    def task() -> None:
        started.set()
        wait_until(lambda: abort_requested() is not None)
        seen.set()
        run_forever()

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, abort_timeout=1000 * PATIENCE)
    assert seen.wait(PATIENCE)
    assert restore(message.message_id) is True
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"


def test_an_aborted_message_is_not_brought_back(worker: dramatiq.Worker) -> None:
    """A message that was aborted stays so."""
    started = threading.Event()

    @dramatiq.actor
    def task() -> None:
        started.set()
        run_forever()

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    assert result_of(message)[0] == "Abort"
    restore(message.message_id)

    assert result_of(message)[0] == "Abort"


def test_a_backend_that_does_not_answer_is_an_error(abortable: Abortable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that does not respond raises our error, with the cause."""
    backend = StubBackend()
    monkeypatch.setattr(backend, "revoke", lambda _: (_ for _ in ()).throw(ConnectionError("gone")))
    abortable._backend = backend

    with pytest.raises(BackendError, match="message id was not restored: ConnectionError: gone") as failed:
        restore("id", abortable)

    assert isinstance(failed.value.__cause__, ConnectionError)
