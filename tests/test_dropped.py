"""An abort that comes up in what C code calls, and drops, comes up again (5)."""

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
    """Up to CPython 3.12 its destructor drops what close() raises, without a word."""

    def close(self) -> None:
        started.set()
        run_forever()


class UnclosedWithFinally(Unclosed):
    """The same, and the exception has been caught in between, so that there is an instance of it."""

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
    """In the function that goes on behind it, which is aborted as if nothing had been."""
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
    """However it does that: it is the task that decides, unless it asks for repetition."""

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
        again.wait(0.1)  # in which it would come, if it came

    for number in range(len(functions)):
        started.clear()
        message = task.send(number)
        assert started.wait(PATIENCE)
        abort(message.message_id)
        assert wait_for_outcome(message.message_id, timeout=1000 * PATIENCE).state is OutcomeState.COMPLETED

    assert steps == ["behind the handler"]


def test_what_was_never_raised_was_not_dropped() -> None:
    """An instance may be made and thrown away."""
    error: Any = Abort()

    assert not was_dropped(error.__traceback__)
