"""An abort that is raised in a call from C code, and dropped there, is raised again (5)."""

from __future__ import annotations

import io
import sys
import threading
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from support import PATIENCE, needs_interrupts, needs_threads, run_forever, stub_broker

from dramatiq_abort import Abort, Abortable, OutcomeState, abort, wait_for_outcome
from dramatiq_abort._core.dropped import was_dropped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

started = threading.Event()
steps: list[str] = []


class Unclosed(io.RawIOBase):
    """Has a destructor that silently drops exceptions of close(), up to CPython 3.12."""

    def close(self) -> None:
        started.set()
        run_forever()


class UnclosedWithFinally(Unclosed):
    """The same, but the exception was caught in between, so that an instance exists."""

    def close(self) -> None:
        try:
            super().close()
        finally:
            steps.append("finally")


@pytest.fixture
def worker() -> Iterator[dramatiq.Worker]:
    broker = stub_broker(Abortable())
    dramatiq.set_broker(broker)
    worker = dramatiq.Worker(broker, worker_timeout=10, worker_threads=1)
    worker.start()
    started.clear()
    steps.clear()
    yield worker
    worker.stop()


@needs_interrupts
@needs_threads
@pytest.mark.parametrize("kind", [Unclosed, UnclosedWithFinally])
def test_an_abort_that_a_destructor_drops_comes_again(
    core: ModuleType, worker: dramatiq.Worker, kind: type[Unclosed]
) -> None:
    """An abort that a destructor drops is raised again in the function that continues."""
    if core.__name__.endswith("_py") and sys.version_info < (3, 12) and kind is Unclosed:
        pytest.skip("the pure-Python core does not hear of an exception of which no instance was made")

    @dramatiq.actor
    def task() -> None:
        kind()
        steps.append("behind it")
        run_forever()

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    outcome = wait_for_outcome(message.message_id, timeout=1000 * PATIENCE)

    assert outcome.state is OutcomeState.ABORTED
    assert steps[-1] == "behind it"


@needs_interrupts
@needs_threads
def test_an_abort_that_the_task_has_caught_does_not_come_again(core: ModuleType, worker: dramatiq.Worker) -> None:
    """An abort that the task catches, in any way, is not raised again without ``repeat_every``."""

    def catch_and_return() -> None:
        try:
            started.set()
            run_forever()
        except Abort:
            return

    def catch_and_go_on() -> None:
        try:
            started.set()
            run_forever()
        except Abort:
            pass
        steps.append("behind the handler")

    functions = [catch_and_return, catch_and_go_on]
    again = threading.Event()

    @dramatiq.actor
    def task(number: int) -> None:
        functions[number]()
        again.wait(0.1)  # time for a second abort to be raised

    for number in range(len(functions)):
        started.clear()
        message = task.send(number)
        assert started.wait(PATIENCE)
        abort(message.message_id)
        assert wait_for_outcome(message.message_id, timeout=1000 * PATIENCE).state is OutcomeState.COMPLETED

    assert steps == ["behind the handler"]


def test_what_was_never_raised_was_not_dropped() -> None:
    """An instance of the exception that is created and discarded does not count as dropped."""
    error: Any = Abort()

    assert not was_dropped(error.__traceback__)
