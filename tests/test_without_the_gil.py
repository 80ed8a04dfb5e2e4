"""The pure-Python core without the GIL: on a free-threaded build, or where that is simulated."""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from support import PATIENCE, needs_interrupts, needs_threads, result_of, run_forever, wait_until, wait_until_it_waits
from test_scope import Stop, Target

from dramatiq_abort import abort, interrupt, shield
from dramatiq_abort._core import interrupt_py
from dramatiq_abort._worker import hooks, hooks_py, runtime, scheduler
from dramatiq_abort.interrupt import InterruptResult

if TYPE_CHECKING:
    from dramatiq.brokers.stub import StubBroker

    from dramatiq_abort import Abortable

pytestmark = [needs_threads, needs_interrupts]


@pytest.fixture(autouse=True)
def without_the_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (scheduler, interrupt_py, runtime):
        monkeypatch.setattr(module, "GIL_IS_ON", False)
    monkeypatch.setattr(interrupt, "Scope", interrupt_py.Scope)
    monkeypatch.setattr(hooks, "MessageHooks", hooks_py.MessageHooks)
    monkeypatch.setattr(hooks, "ScopedCall", hooks_py.ScopedCall)


def test_no_other_thread_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exceptions are raised without a look, because reading a running thread's frames crashes the interpreter."""
    lock = threading.Lock()
    lock.acquire()

    class Stands(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lock.acquire()

    logger = logging.Logger("protected")
    logger.addHandler(Stands())
    target = Target(interrupt_py, logger.warning, "a line")
    wait_until_it_waits(target.thread)
    looks: list[object] = []
    monkeypatch.setattr(sys, "_current_frames", lambda: looks.append(1) or {})
    answer = target.scope.interrupt(Stop)
    frames = target.scope.frames()
    lock.release()
    target.join()

    assert (answer, frames, looks) == (InterruptResult.RAISED, [], [])
    assert isinstance(target.error, Stop)


def test_a_thread_looks_at_itself() -> None:
    """A thread's own frames stand still, so it does not interrupt itself in protected code."""
    scope = interrupt_py.Scope()
    answers: list[InterruptResult] = []

    class Interrupts(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            answers.append(scope.interrupt(Stop))
            answers.extend([InterruptResult.CLOSED] * (not scope.frames()))

    logger = logging.Logger("protected")
    logger.addHandler(Interrupts())

    scope.run(logger.warning, ("a line",))

    assert answers == [InterruptResult.PROTECTED]


def test_what_has_come_up_already_can_be_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """rearm() works even if the target raised the exception before the interrupting thread continued."""
    scope = interrupt_py.Scope()
    rearmed: list[bool] = []

    def function() -> None:
        gate = scope._gate.last()
        spent = interrupt_py._Gate(is_spent=True)
        spent.is_on_its_way = True
        assert gate.becomes(spent)
        others = SimpleNamespace(sleep=lambda _: setattr(spent, "is_on_its_way", False))  # the other thread continues
        monkeypatch.setattr(interrupt_py, "time", others)
        rearmed.append(scope.rearm())

    scope.run(function)

    assert rearmed == [True]


def test_the_messages_that_have_completed_are_read_while_they_change() -> None:
    """Completed messages can be read while other threads add to the deque, which allows no iteration or copy."""

    class Changing(deque[Any]):
        def __iter__(self) -> Any:
            raise RuntimeError("deque mutated during iteration")

        def copy(self) -> Any:
            raise RuntimeError("deque mutated during iteration")

    hooks: Any = hooks_py.MessageHooks.__new__(hooks_py.MessageHooks)
    hooks._completed = Changing([("1", "task"), ("2", "task")])

    assert hooks.completed("1") == ("1", "task")
    assert hooks.completed("3") is None
    assert hooks.completed_ids() == ["2", "1"]


def test_a_worker_says_so_when_it_boots(start_worker: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A worker logs once what is limited, and what to do."""
    start_worker()

    (warning,) = [record for record in caplog.records if record.name.startswith("dramatiq_abort")]
    assert warning.levelname == "WARNING"
    assert "without the GIL" in warning.message
    assert "PYTHON_GIL=1" in warning.message


def test_a_report_has_no_stack(
    broker: StubBroker, abortable: Abortable, start_worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The report of a message that does not stop explains why it has no stack."""
    started, go_on = threading.Event(), threading.Event()

    @dramatiq.actor
    def holds_out() -> None:
        with shield():
            started.set()
            assert go_on.wait(PATIENCE)
        run_forever()

    def reports() -> list[str]:
        return [record.getMessage() for record in caplog.records if "should have stopped" in record.getMessage()]

    abortable.warn_after = 1
    start_worker()
    message = holds_out.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    wait_until(reports, "the report")
    go_on.set()

    assert result_of(message)[0] == "Abort"
    assert reports()[0].endswith("it is inside a shield.\nIts stack cannot be read while the GIL is off.")
