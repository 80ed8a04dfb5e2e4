"""What works where no exception can be raised in another thread: on PyPy, or where that is simulated."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from support import PATIENCE, needs_threads, result_of, wait_for_request, wait_until_requested

from dramatiq_abort import AbortMode, abort, interrupt, shield
from dramatiq_abort._core import interrupt_py
from dramatiq_abort._worker import hooks, hooks_py

if TYPE_CHECKING:
    from dramatiq.brokers.stub import StubBroker

    from dramatiq_abort import Abortable

pytestmark = needs_threads


@pytest.fixture(autouse=True)
def without_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt_py, "SUPPORTED", False)
    monkeypatch.setattr(interrupt, "SUPPORTED", False)
    monkeypatch.setattr(interrupt, "Scope", interrupt_py.Scope)
    monkeypatch.setattr(hooks, "MessageHooks", hooks_py.MessageHooks)
    monkeypatch.setattr(hooks, "ScopedCall", hooks_py.ScopedCall)


def test_a_worker_says_so_when_it_boots(start_worker: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A worker warns once when it boots, however many messages are aborted then."""
    worker = start_worker()

    @dramatiq.actor
    def task() -> None: ...

    for _ in range(3):
        message = task.send()
        abort(message.message_id)
    worker.join()

    (warning,) = [record for record in caplog.records if record.name.startswith("dramatiq_abort")]
    assert warning.levelname == "WARNING"
    assert "cannot raise exceptions in other threads" in warning.message
    assert "abort_requested()" in warning.message


@pytest.mark.parametrize("mode", AbortMode)
def test_a_waiting_message_is_skipped(broker: StubBroker, start_worker: Any, mode: AbortMode) -> None:
    """A waiting message is skipped without a call of its function."""
    calls: list[int] = []

    @dramatiq.actor
    def task() -> None:
        calls.append(1)

    message = task.send()
    abort(message.message_id, mode=mode)
    start_worker()

    assert result_of(message) is None
    assert calls == []


def test_a_running_message_can_ask(worker: dramatiq.Worker) -> None:
    """A running message can call abort_requested() and end by itself: it has completed."""
    started = threading.Event()

    @dramatiq.actor
    def task() -> str:
        started.set()
        left = wait_for_request()
        return f"{left} ms left"

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message) == "0.0 ms left"


def test_a_running_message_that_does_not_ask_completes(worker: dramatiq.Worker, abortable: Abortable) -> None:
    """A running message that does not check completes, and its result counts."""
    started, go_on = threading.Event(), threading.Event()

    @dramatiq.actor
    def task() -> str:
        started.set()
        assert go_on.wait(PATIENCE)
        return "done"

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    go_on.set()

    assert result_of(message) == "done"


@pytest.mark.parametrize("where", ["before", "inside"])
def test_an_abort_is_raised_at_the_end_of_a_shield(worker: dramatiq.Worker, abortable: Abortable, where: str) -> None:
    """An abort is raised at the end of a shield, whether it arrived in or before the shield."""
    started, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def reach(place: str) -> None:
        order.append(place)
        if place == where:
            started.set()
            assert go_on.wait(PATIENCE)

    @dramatiq.actor
    def task() -> None:
        reach("before")
        with shield():
            reach("inside")
        reach("behind")

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    go_on.set()

    assert result_of(message)[0] == "Abort"
    assert order == ["before", "inside"]
