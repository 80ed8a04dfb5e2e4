"""Guarantee 5, no abort is lost: a request takes effect at any time until its time to live ends."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.middleware import Middleware
from support import (
    PATIENCE,
    needs_gil,
    needs_interrupts,
    needs_threads,
    result_of,
    run_forever,
    wait_until,
    wait_until_requested,
)

from dramatiq_abort import Abort, abort
from dramatiq_abort._worker.scheduler import InterruptScheduler
from dramatiq_abort.interrupt import InterruptResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dramatiq.brokers.stub import StubBroker

    from dramatiq_abort import Abortable
    from dramatiq_abort._worker.execution import Execution

pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.sanitized]


def test_an_abort_between_the_question_and_the_start_is_raised(
    broker: StubBroker, abortable: Abortable, start_worker: Any
) -> None:
    """(5) An abort is raised if it arrives between the check before the start and the call of the function."""
    about_to_start, go_on = threading.Event(), threading.Event()
    calls: list[int] = []

    class Slow(Middleware):
        def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:
            about_to_start.set()
            assert go_on.wait(PATIENCE)

    @dramatiq.actor
    def task() -> None:
        calls.append(1)

    broker.add_middleware(Slow())
    start_worker()
    message = task.send()
    assert about_to_start.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    go_on.set()

    assert result_of(message)[0] == "Abort"
    assert calls == []


@pytest.mark.slow
@needs_gil
@needs_threads
@needs_interrupts
def test_an_abort_is_not_lost_where_nothing_can_be_raised(worker: dramatiq.Worker) -> None:
    """(5) An abort that CPython drops in the clean-up of an unfinished generator is raised again."""
    started = threading.Event()

    def generator() -> Iterator[int]:
        try:
            yield 1
        finally:
            for _ in range(300):
                pass

    @dramatiq.actor
    def task() -> None:
        started.set()
        while True:
            next(generator())

    before = sys.unraisablehook
    for _ in range(10):
        started.clear()
        message = task.send()
        assert started.wait(PATIENCE)
        abort(message.message_id)
        assert result_of(message)[0] == "Abort"
    assert sys.unraisablehook is before


@needs_threads
@needs_interrupts
def test_an_abort_is_not_lost_where_it_is_got_back(
    broker: StubBroker, start_worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(5) A recovered abort is raised, even if it is retried while the hook that recovered it is still running."""
    started = threading.Event()
    answers: list[InterruptResult] = []
    interrupt_again = InterruptScheduler.interrupt_again

    class Thing:
        def __del__(self) -> None:
            raise Abort

    def ask_at_once(scheduler: InterruptScheduler, running: Execution) -> None:
        with ThreadPoolExecutor(1) as other:
            answers.extend(other.submit(running.interrupt).result() for _ in range(3))
        interrupt_again(scheduler, running)

    @dramatiq.actor
    def task() -> None:
        with suppress(Abort):
            started.set()
            run_forever()
        Thing()
        run_forever()

    monkeypatch.setattr(InterruptScheduler, "interrupt_again", ask_at_once)
    start_worker()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    assert answers
    assert InterruptResult.RAISED not in answers


def test_a_delayed_message_is_skipped(broker: StubBroker, worker: dramatiq.Worker) -> None:
    """(5) A delayed message is skipped when its delay ends."""
    calls: list[int] = []

    @dramatiq.actor
    def task() -> None:
        calls.append(1)

    message = task.message()
    abort(message.message_id)
    broker.enqueue(message, delay=100)

    assert result_of(message) is None
    assert calls == []


def test_a_message_that_runs_twice_at_once_is_aborted_twice(worker: dramatiq.Worker, broker: StubBroker) -> None:
    """(5) Both executions are aborted if a broker redelivers a message that is still running."""
    started: list[int] = []
    aborted: list[int] = []

    @dramatiq.actor
    def task() -> None:
        try:
            started.append(1)
            run_forever()
        except Abort:
            aborted.append(1)
            raise

    message = task.send()
    broker.enqueue(message)
    wait_until(lambda: len(started) == 2)
    abort(message.message_id)
    worker.join()

    assert aborted == [1, 1]


def test_a_second_worker_keeps_its_watcher(broker: StubBroker, start_worker: Any) -> None:
    """(5) Aborts reach the second of two workers after the first one has stopped."""
    started = threading.Event()

    @dramatiq.actor
    def task() -> None:
        run_forever(started)

    first = start_worker()
    start_worker()
    first.stop()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
