"""``trio.run()`` in an ordinary actor: trio cancels its tasks, and the function sees an ``Abort``."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from support import PATIENCE, needs_threads, result_of, wait_until_requested

from dramatiq_abort import Abort, Abortable, abort, run_process, shield, sleep
from dramatiq_abort.backends import StubBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from dramatiq_abort import EventBackend

trio = pytest.importorskip("trio")

pytestmark = [needs_threads, pytest.mark.usefixtures("core")]


@pytest.fixture
def make_backend() -> Callable[[], EventBackend]:
    """Return a single backend: the origin of the request makes no difference here."""
    backend = StubBackend()
    return lambda: backend


@pytest.fixture(autouse=True)
def one_thread(start_worker: Any) -> None:
    start_worker(worker_threads=1)


async def wait(started: threading.Event) -> None:
    started.set()
    await trio.sleep_forever()


def test_a_run_without_an_abort_is_trios_own() -> None:
    """Without an abort, trio.run() has trio's arguments, result and exceptions, in a message and elsewhere."""

    async def main(number: int) -> int:
        await trio.sleep(0)
        if number < 0:
            raise ValueError(number)
        return number + 1

    def use() -> int:
        with pytest.raises(ValueError, match="-1"):
            trio.run(main, -1, strict_exception_groups=True)
        return int(trio.run(main, 1, restrict_keyboard_interrupt_to_checkpoints=True))

    task = dramatiq.actor(actor_name="task")(use)

    assert result_of(task.send()) == 2
    assert use() == 2


class Holds(trio.abc.Instrument):  # type: ignore[misc]
    """Delays a run before its main task has begun."""

    def __init__(self) -> None:
        self.started, self.go_on = threading.Event(), threading.Event()

    def before_run(self) -> None:
        self.started.set()
        assert self.go_on.wait(PATIENCE)


def test_an_abort_before_the_main_task_cancels_its_first_wait(abortable: Abortable) -> None:
    """An abort before the main task begins cancels the task's first wait, not a later one."""
    holds = Holds()
    steps: list[str] = []

    async def main() -> None:
        steps.append("begun")
        await trio.sleep(0)
        steps.append("gone on")
        await trio.sleep_forever()

    @dramatiq.actor
    def task() -> None:
        trio.run(main, instruments=[holds])

    message = task.send()
    assert holds.started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    holds.go_on.set()

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")
    assert steps == ["begun"]


def test_what_the_clean_up_raises_is_the_aborts_cause() -> None:
    """The function sees the Abort, with an exception of the main task's clean-up as its cause."""
    started = threading.Event()
    causes: list[BaseException | None] = []

    async def main() -> None:
        try:
            await wait(started)
        finally:
            raise KeyError

    @dramatiq.actor
    def task() -> None:
        try:
            trio.run(main)
        except Abort as aborted:
            causes.append(aborted.__cause__)
            raise

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")
    assert list(map(type, causes)) == [KeyError]


def test_a_main_task_that_swallows_its_cancellation_is_aborted_all_the_same() -> None:
    """A main task that catches its cancellation is aborted, and its result is lost."""
    started = threading.Event()

    async def main() -> str:
        try:
            await wait(started)
        except trio.Cancelled:
            pass
        return "result"

    @dramatiq.actor
    def task() -> str:
        return str(trio.run(main))

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")


def test_a_shield_in_the_run_holds_the_abort_up(abortable: Abortable) -> None:
    """A shield in any task holds the abort back; the main task is cancelled when it ends."""
    started, requested = threading.Event(), threading.Event()
    steps: list[str] = []

    async def child() -> None:
        with shield():
            started.set()
            while not requested.is_set():
                await trio.sleep(0)
            await trio.sleep(0.001)
            steps.append("done")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            await trio.sleep_forever()

    @dramatiq.actor
    def task() -> None:
        trio.run(main)

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    requested.set()

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")
    assert steps == ["done"]


def test_what_would_hold_up_the_run_is_refused() -> None:
    """Calls that would block the run raise and name what to await; in trio's threads and after it they work."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"sleep\(\) would block the event loop: await trio\.sleep\(\)"):
            sleep(1)
        with pytest.raises(RuntimeError, match=r"await trio\.to_thread\.run_sync\(run_process, \.\.\.\)"):
            run_process(["true"])
        await trio.to_thread.run_sync(sleep, 1)

    @dramatiq.actor
    def task() -> str:
        trio.run(main)
        sleep(1)
        return "done"

    assert result_of(task.send()) == "done"


def test_a_sleep_in_a_thread_of_trios_ends_with_the_abort() -> None:
    """sleep() in a thread that the run waits for ends with the abort."""
    started = threading.Event()

    def work() -> None:
        started.set()
        sleep(PATIENCE * 1000)

    async def main() -> None:
        await trio.to_thread.run_sync(work)

    @dramatiq.actor
    def task() -> None:
        trio.run(main)

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")
