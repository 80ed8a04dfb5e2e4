"""checkpoint() and sleep(): places where a function stops by itself, on every interpreter."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.middleware import AsyncIO
from support import PATIENCE, result_of, wait_until_requested

from dramatiq_abort import Abort, Abortable, abort, abort_requested, checkpoint, shield, sleep
from dramatiq_abort._worker.scheduler import InterruptScheduler
from dramatiq_abort.backends import StubBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from dramatiq.brokers.stub import StubBroker

    from dramatiq_abort import EventBackend
    from dramatiq_abort._worker.execution import Execution

pytestmark = pytest.mark.usefixtures("core")

LONG = PATIENCE * 1000


class Steps:
    """The events by which a task and its test synchronize."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.requested = threading.Event()
        self.seen: list[object] = []


@pytest.fixture
def make_backend() -> Callable[[], EventBackend]:
    """Return a single backend: the origin of the request makes no difference here."""
    backend = StubBackend()
    return lambda: backend


@pytest.fixture
def steps() -> Steps:
    return Steps()


def test_outside_of_a_message_nothing_is_raised() -> None:
    """Outside a message, checkpoint() does nothing and sleep() sleeps."""
    before = time.monotonic()
    checkpoint()
    sleep(10)

    assert time.monotonic() - before >= 0.01


def test_without_an_abort_nothing_is_raised(broker: StubBroker, start_worker: Any) -> None:
    """Without an abort, checkpoint() does nothing, and sleep() sleeps for its duration."""

    @dramatiq.actor
    def task() -> bool:
        before = time.monotonic()
        checkpoint()
        sleep(10)
        return time.monotonic() - before >= 0.01

    message = task.send()
    start_worker()

    assert result_of(message) is True


@pytest.mark.parametrize(("duration", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_duration_is_a_number_of_milliseconds(duration: Any, error: type[Exception]) -> None:
    """sleep() refuses anything but a number of milliseconds."""
    with pytest.raises(error, match="duration must be"):
        sleep(duration)


def test_a_checkpoint_raises_what_is_due(broker: StubBroker, start_worker: Any, steps: Steps) -> None:
    """checkpoint() raises a due abort on every interpreter, where no interrupt could have raised it."""

    @dramatiq.actor
    def task() -> None:
        try:
            with shield():  # so that only checkpoint() can raise it
                steps.started.set()
                assert steps.requested.wait(PATIENCE)
                checkpoint()
                steps.seen.append("behind a shield")
        except Abort:
            steps.seen.append("at its end")
        checkpoint()
        steps.seen.append("once")
        raise Abort

    start_worker()
    message = task.send()
    assert steps.started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(_abortable(), message)
    steps.requested.set()

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")
    assert steps.seen == ["behind a shield", "at its end", "once"]


def test_a_checkpoint_leaves_the_grace_period_alone(broker: StubBroker, start_worker: Any, steps: Steps) -> None:
    """checkpoint() raises at the end of a grace period, not before."""

    @dramatiq.actor
    def task() -> None:
        steps.started.set()
        while not abort_requested():
            checkpoint()
            time.sleep(0.001)
        for _ in range(100):
            checkpoint()
        steps.seen.append(abort_requested())
        steps.requested.set()
        while abort_requested():
            checkpoint()
            time.sleep(0.001)
        checkpoint()
        steps.seen.append("no abort is due")

    start_worker()
    message = task.send()
    assert steps.started.wait(PATIENCE)
    abort(message.message_id, abort_timeout=2 * PATIENCE * 1000)
    assert steps.requested.wait(PATIENCE)
    abort(message.message_id)  # ends the grace period

    assert result_of(message)[0] == "Abort"
    [left] = steps.seen
    assert left > 0


@pytest.mark.parametrize("grace", [0, 20])
def test_a_sleep_ends_with_the_abort(broker: StubBroker, start_worker: Any, steps: Steps, grace: int) -> None:
    """A long sleep() ends at once with the abort, or at the end of the grace period."""

    @dramatiq.actor
    def task() -> None:
        steps.started.set()
        try:
            sleep(LONG)
        finally:
            steps.seen.append(abort_requested())

    start_worker()
    message = task.send()
    assert steps.started.wait(PATIENCE)
    before = time.monotonic()
    abort(message.message_id, abort_timeout=grace)

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")
    assert grace / 1000 <= time.monotonic() - before < PATIENCE / 2
    assert steps.seen == [0]


def test_a_sleep_behind_a_shield_lasts(broker: StubBroker, start_worker: Any, steps: Steps) -> None:
    """sleep() in a shield lasts its full duration: it is woken once, and does not poll afterwards."""
    turns: list[float] = []

    @dramatiq.actor
    def task() -> None:
        with shield():
            steps.started.set()
            while abort_requested() is None:
                time.sleep(0.001)
            before, processor = time.monotonic(), time.thread_time()
            sleep(300)
            turns.append(time.monotonic() - before)
            turns.append(time.thread_time() - processor)
        steps.seen.append("not reached")

    start_worker()
    message = task.send()
    assert steps.started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    assert steps.seen == []
    lasted, computed = turns
    assert lasted >= 0.3
    assert computed < 0.1


def test_a_thread_of_the_function_stops_by_itself(broker: StubBroker, start_worker: Any, steps: Steps) -> None:
    """In a thread with the function's context, sleep() and checkpoint() raise the abort, each time."""

    def work() -> None:
        steps.started.set()
        for _ in range(2):  # each time
            try:
                sleep(LONG)
            except Abort as aborted:
                steps.seen.append(aborted.message_id)

    @dramatiq.actor
    def task() -> None:
        import contextvars

        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
        thread.start()
        with shield():
            thread.join()

    start_worker()
    message = task.send()
    assert steps.started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    assert steps.seen == [message.message_id] * 2


def test_in_a_coroutine(broker: StubBroker, start_worker: Any, steps: Steps) -> None:
    """checkpoint() raises in a coroutine without an await; sleep() is for its threads, as it would block the loop."""
    broker.add_middleware(AsyncIO())

    def in_a_thread() -> None:
        steps.started.set()
        try:
            sleep(LONG)
        except Abort as aborted:
            steps.seen.append(aborted.message_id)
            steps.requested.set()
            raise

    @dramatiq.actor
    async def task() -> None:
        with pytest.raises(RuntimeError, match=r"await asyncio\.sleep\(\)"):
            sleep(1)
        thread = asyncio.get_running_loop().create_task(asyncio.to_thread(in_a_thread))
        await asyncio.sleep(0)
        assert steps.requested.wait(PATIENCE)  # the loop is blocked
        try:
            checkpoint()
        finally:
            steps.seen.append("checkpoint")
            await asyncio.wait([thread])

    start_worker()
    message = task.send()
    assert steps.started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")
    assert steps.seen == [message.message_id, "checkpoint"]


interrupt = InterruptScheduler.interrupt


def wake_first(deadlines: InterruptScheduler, running: Execution, thread_ended: threading.Event) -> None:
    """Abort a message after its thread has seen the abort and ended."""
    running.ring()
    assert thread_ended.wait(PATIENCE)
    interrupt(deadlines, running)


def wake_last(deadlines: InterruptScheduler, running: Execution, thread_ended: threading.Event) -> None:
    """Abort a message, and continue when its thread has ended."""
    interrupt(deadlines, running)
    assert thread_ended.wait(PATIENCE)


@pytest.mark.parametrize("order", [wake_first, wake_last])
def test_a_coroutine_stops_before_the_thread_that_it_waits_for(
    broker: StubBroker, start_worker: Any, monkeypatch: pytest.MonkeyPatch, order: Any
) -> None:
    """A thread that keeps the abort to itself does not make the coroutine's message complete."""
    broker.add_middleware(AsyncIO())
    steps = Steps()
    thread_ended = threading.Event()

    def in_a_thread() -> None:
        with suppress(Abort):
            sleep(2 * LONG)

    @dramatiq.actor
    async def task() -> None:
        loop = asyncio.get_running_loop()
        thread = loop.run_in_executor(None, contextvars.copy_context().run, in_a_thread)
        thread.add_done_callback(lambda _: thread_ended.set())
        loop.call_soon(steps.started.set)  # once it waits: it would not wait for a thread that has ended
        await thread

    monkeypatch.setattr(InterruptScheduler, "interrupt", lambda self, running: order(self, running, thread_ended))
    start_worker()
    message = task.send()
    assert steps.started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")


def _abortable() -> Abortable:
    return next(each for each in dramatiq.get_broker().middleware if isinstance(each, Abortable))
