"""Event loops on an ordinary actor's thread: their coroutines are cancelled inside, and no abort is lost."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from support import (
    PATIENCE,
    needs_interrupts,
    needs_threads,
    result_of,
    run_forever,
    running_in,
    wait_until,
    wait_until_requested,
)

from dramatiq_abort import Abort, Abortable, AsyncAbort, abort, abort_requested, checkpoint, restore, shield, sleep
from dramatiq_abort._protocol.request import key_of
from dramatiq_abort.backends import StubBackend
from dramatiq_abort.interrupt import InterruptResult

try:
    import uvloop
except ImportError:  # an optional dependency
    uvloop = None

try:
    import trio
except ImportError:  # an optional dependency
    trio = None

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from dramatiq.message import Message

    from dramatiq_abort import EventBackend

pytestmark = [needs_threads, pytest.mark.usefixtures("core")]

needs_trio = pytest.mark.skipif(trio is None, reason="trio is not installed")
needs_uvloop = pytest.mark.skipif(uvloop is None, reason="uvloop is not installed")
needs_runners = pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has no Runner yet")


@pytest.fixture
def make_backend() -> Callable[[], EventBackend]:
    """Return a single backend: the origin of the request makes no difference here."""
    backend = StubBackend()
    return lambda: backend


class Seen:
    """The events by which a task and its test synchronize."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.requested = threading.Event()
        self.exceptions: list[BaseException] = []

    async def wait(self) -> None:
        """Wait forever, and record the exception raised there."""
        asyncio.get_running_loop().call_soon(self.started.set)  # when it waits
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            self.exceptions.append(error)
            raise

    def types(self) -> list[type[BaseException]]:
        return [type(error) for error in self.exceptions]


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture(autouse=True)
def one_thread(start_worker: Any) -> None:
    """Run all messages on the same thread."""
    start_worker(worker_threads=1)


def new_loop() -> closing[asyncio.AbstractEventLoop]:
    return closing(asyncio.new_event_loop())


def is_aborted(message: Message[Any]) -> bool:
    return bool(result_of(message) == ("Abort", f"message {message.message_id} was aborted"))


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main)


def run_in_debug_mode(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main, debug=True)


def run_in_a_runner(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner() as runner:
        return runner.run(main)


def run_until_complete(main: Coroutine[Any, Any, Any]) -> Any:
    with new_loop() as loop:
        return loop.run_until_complete(main)


def run_in_uvloop(main: Coroutine[Any, Any, Any]) -> Any:
    with closing(uvloop.new_event_loop()) as loop:
        return loop.run_until_complete(main)


def run_in_anyio(main: Coroutine[Any, Any, Any]) -> Any:
    async def wait() -> Any:
        return await main

    return pytest.importorskip("anyio").run(wait)


WAYS = [
    run,
    run_in_debug_mode,
    pytest.param(run_in_a_runner, marks=needs_runners),
    run_until_complete,
    pytest.param(run_in_uvloop, marks=needs_uvloop),
    pytest.param(run_in_anyio, marks=needs_runners),
]


@pytest.mark.parametrize("start_loop", WAYS)
def test_the_coroutine_sees_an_abort_and_so_does_the_function(
    start_loop: Callable[[Coroutine[Any, Any, Any]], Any], seen: Seen
) -> None:
    """The coroutine sees an AsyncAbort at its await, and the function a plain Abort after the loop."""
    outside: list[BaseException] = []

    @dramatiq.actor
    def task() -> None:
        try:
            start_loop(seen.wait())
        except Abort as aborted:
            outside.append(aborted)
            raise

    message = task.send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)

    assert is_aborted(message)
    assert seen.types() == [AsyncAbort]
    assert [type(error) for error in outside] == [Abort]
    assert isinstance(outside[0].__cause__, asyncio.CancelledError)


@pytest.mark.parametrize("make", [asyncio.ensure_future, asyncio.gather])
def test_a_task_that_is_there_already_is_cancelled(make: Callable[[Any], Any], seen: Seen) -> None:
    """An existing task sees a bare CancelledError, and the function an Abort."""

    @dramatiq.actor
    def task() -> None:
        with new_loop() as loop:

            async def start() -> Any:
                return [make(seen.wait())]  # not awaited yet

            [future] = loop.run_until_complete(start())
            loop.run_until_complete(future)

    message = task.send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)

    assert is_aborted(message)
    assert seen.types() == [asyncio.CancelledError]


def test_a_loop_that_runs_forever_is_stopped(seen: Seen) -> None:
    """``run_forever()`` is stopped, and the abort is raised after it."""
    outside: list[BaseException] = []

    @dramatiq.actor
    def task() -> None:
        with new_loop() as loop:
            loop.call_soon(seen.started.set)
            try:
                loop.run_forever()
            except Abort as aborted:
                outside.append(aborted)
                raise

    message = task.send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)

    assert is_aborted(message)
    assert len(outside) == 1


def test_what_runs_beside_the_coroutine_is_cancelled_by_asyncio(seen: Seen) -> None:
    """Tasks in gather() are cancelled by asyncio, as for an async actor; unawaited tasks, at the loop's end."""
    other = Seen()

    async def main() -> None:
        stray = asyncio.ensure_future(other.wait())
        await asyncio.gather(seen.wait())
        await stray

    @dramatiq.actor
    def task() -> None:
        asyncio.run(main())

    message = task.send()
    assert seen.started.wait(PATIENCE)
    assert other.started.wait(PATIENCE)
    abort(message.message_id)

    assert is_aborted(message)
    assert seen.types() == other.types() == [asyncio.CancelledError]


def test_a_coroutine_that_swallows_the_abort_has_completed(seen: Seen) -> None:
    """A message completes if its coroutine catches the abort and returns, like any function."""

    async def main() -> str:
        try:
            await seen.wait()
        except asyncio.CancelledError:
            return "went on"

    @dramatiq.actor
    def task() -> str:
        return asyncio.run(main())

    message = task.send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message) == "went on"


def test_an_abort_that_the_coroutine_does_not_await_comes_up_behind_the_loop(seen: Seen, abortable: Abortable) -> None:
    """If the coroutine returns without another await, the function is aborted after the loop."""
    reached: list[str] = []

    async def main() -> None:
        seen.started.set()
        seen.requested.wait(PATIENCE)

    @dramatiq.actor
    def task() -> None:
        try:
            asyncio.run(main())
            reached.append("next statement")
        finally:
            reached.append("end")

    message = task.send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    seen.requested.set()

    assert is_aborted(message)
    assert reached == ["end"]


def test_an_abort_is_not_lost_behind_an_exception_of_the_coroutine(seen: Seen, abortable: Abortable) -> None:
    """A function that handles its coroutine's exception is still aborted."""

    async def main() -> None:
        seen.started.set()
        seen.requested.wait(PATIENCE)
        raise LookupError

    @dramatiq.actor
    def task() -> None:
        try:
            asyncio.run(main())
        except LookupError:
            seen.exceptions.append(LookupError())

    message = task.send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    seen.requested.set()

    assert is_aborted(message)
    assert seen.exceptions == []


def test_a_callback_that_waits_for_a_thread_is_not_cut(seen: Seen, abortable: Abortable) -> None:
    """No abort is raised in a callback's wait, which is safe elsewhere, because asyncio would drop it."""

    async def child() -> None:
        seen.started.set()
        try:
            seen.requested.wait(PATIENCE)
        except BaseException as error:
            seen.exceptions.append(error)
            raise

    async def main() -> None:
        stray = asyncio.ensure_future(child())
        await asyncio.Event().wait()
        await stray

    @dramatiq.actor
    def task() -> None:
        asyncio.run(main())

    message = task.send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    [running] = running_in(abortable).all()
    for _ in range(3):
        running.interrupt()
    seen.requested.set()

    assert is_aborted(message)
    assert seen.exceptions == []


@pytest.mark.parametrize("is_child", [False, True])
def test_a_shield_in_a_coroutine_holds_the_abort_up(is_child: bool, seen: Seen, abortable: Abortable) -> None:
    """A shield in any task of the loop holds the abort back."""
    steps: list[str] = []

    async def shielded() -> None:
        async with shield():
            seen.started.set()
            while not seen.requested.is_set():
                await asyncio.sleep(0.001)
            steps.append("end of the shield")
        if not is_child:  # the loop cancels a child a moment later
            steps.append("behind the shield")
        await asyncio.Event().wait()

    async def main() -> None:
        await (asyncio.gather(shielded()) if is_child else shielded())

    @dramatiq.actor
    def task() -> None:
        try:
            asyncio.run(main())
        finally:
            steps.append("end")

    message = task.send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    [running] = running_in(abortable).all()
    assert running.interrupt() is InterruptResult.DEFERRED
    seen.requested.set()

    assert is_aborted(message)
    assert steps == ["end of the shield", "end"]


def test_a_shield_around_the_loop_holds_the_abort_up(seen: Seen, abortable: Abortable) -> None:
    """With a shield around the loop, the coroutine runs to its end, and the shield's end raises."""
    steps: list[str] = []

    async def main() -> None:
        seen.started.set()
        while not seen.requested.is_set():
            await asyncio.sleep(0.001)
        steps.append("end of the coroutine")

    @dramatiq.actor
    def task() -> None:
        with shield():
            asyncio.run(main())
            steps.append("end of the shield")
        steps.append("behind")

    message = task.send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    seen.requested.set()

    assert is_aborted(message)
    assert steps == ["end of the coroutine", "end of the shield"]


@pytest.mark.parametrize("is_child", [False, True])
def test_a_checkpoint_in_a_coroutine_raises(is_child: bool, seen: Seen, abortable: Abortable) -> None:
    """checkpoint() raises before the next await in any task; sleep() refuses to block the loop."""

    async def compute() -> None:
        with pytest.raises(RuntimeError, match="await asyncio"):
            sleep(1)
        assert abort_requested() is None
        seen.started.set()
        seen.requested.wait(PATIENCE)
        assert abort_requested() == 0
        try:
            checkpoint()
        except BaseException as error:
            seen.exceptions.append(error)
            raise

    async def main() -> None:
        await (asyncio.gather(compute()) if is_child else compute())

    @dramatiq.actor
    def task() -> None:
        asyncio.run(main())

    message = task.send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    seen.requested.set()

    assert is_aborted(message)
    assert seen.types() == [AsyncAbort]


def test_a_coroutine_that_goes_on_is_aborted_again(seen: Seen) -> None:
    """A coroutine that catches the abort is aborted again at intervals of ``repeat_every``."""

    async def main() -> None:
        for _ in range(3):
            try:
                await seen.wait()
            except Abort:
                pass
        await seen.wait()

    @dramatiq.actor
    def task() -> None:
        asyncio.run(main())

    message = task.send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id, repeat_every=1)

    assert is_aborted(message)
    assert seen.types() == [AsyncAbort] * 4


def test_a_request_that_is_taken_back_raises_nothing(seen: Seen, abortable: Abortable) -> None:
    """A restored request that waited for a shield in the coroutine raises nothing."""

    async def main() -> str:
        async with shield():
            seen.started.set()
            while not seen.requested.is_set():
                await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        return "went on"

    @dramatiq.actor
    def task() -> str:
        return asyncio.run(main())

    message = task.send()
    assert seen.started.wait(PATIENCE)
    [running] = running_in(abortable).all()
    abort(message.message_id)
    wait_until_requested(abortable, message)
    restore(message.message_id)
    wait_until(lambda: running.request is None)
    seen.requested.set()

    assert result_of(message) == "went on"


def test_a_report_has_the_coroutines_stack(seen: Seen, abortable: Abortable) -> None:
    """The report of a slow clean-up shows the coroutine's stack, not the thread's, which is in the loop."""

    async def put_everything_away() -> None:
        while not seen.requested.is_set():
            await asyncio.sleep(0.001)

    async def main() -> None:
        try:
            await seen.wait()
        finally:
            await put_everything_away()

    @dramatiq.actor
    def task() -> None:
        asyncio.run(main())

    message = task.send()
    assert seen.started.wait(PATIENCE)
    [running] = running_in(abortable).all()
    abort(message.message_id)
    wait_until(lambda: {"task", "main", "put_everything_away"} <= {f.f_code.co_name for f in running.frames()})
    seen.requested.set()

    assert is_aborted(message)


def test_the_loops_clean_up_is_not_cut(seen: Seen, abortable: Abortable) -> None:
    """An abort during the clean-up of asyncio.run() is raised after it."""
    steps: list[object] = []

    async def numbers() -> Any:
        try:
            yield 1
        finally:
            seen.started.set()
            while not seen.requested.is_set():
                await asyncio.sleep(0.001)
            steps.append("put away")

    async def stray() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.001)
            steps.append("child put away")

    kept: list[Any] = []

    async def main() -> None:
        kept.append(numbers())
        await kept[0].__anext__()
        kept.append(asyncio.ensure_future(stray()))
        await asyncio.sleep(0)

    @dramatiq.actor
    def task() -> None:
        try:
            asyncio.run(main())
            run_forever()
        finally:
            steps.append("end")

    message = task.send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    seen.requested.set()

    assert is_aborted(message)
    assert steps == ["child put away", "put away", "end"]


def test_a_loop_and_a_runner_that_are_kept_know_the_message_that_uses_them(seen: Seen) -> None:
    """A reused loop or runner belongs to the current message; an aborted one does not disturb the next."""
    kept = asyncio.Runner() if sys.version_info >= (3, 11) else asyncio.new_event_loop()
    start = kept.run if sys.version_info >= (3, 11) else kept.run_until_complete

    async def ask() -> object:
        await asyncio.sleep(0.001)
        checkpoint()
        return abort_requested()

    @dramatiq.actor
    def wait() -> None:
        start(seen.wait())

    @dramatiq.actor
    def look() -> object:
        return start(ask())

    for _ in range(3):
        seen.started.clear()
        message = wait.send()
        assert seen.started.wait(PATIENCE)
        abort(message.message_id)
        assert is_aborted(message)
        assert result_of(look.send()) is None
    kept.close()
    assert seen.types() == [AsyncAbort] * 3


def test_a_second_loop_of_a_message_is_aborted_as_well(seen: Seen) -> None:
    """Each run of a loop has its own coroutine, which is aborted."""

    @dramatiq.actor
    def task() -> None:
        with new_loop() as loop:
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(seen.wait())

    message = task.send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)

    assert is_aborted(message)
    assert seen.types() == [AsyncAbort]


def test_a_loop_in_a_thread_of_the_function_is_left_alone(seen: Seen) -> None:
    """A loop in another thread is left alone; the function that waits for the thread is aborted."""
    stop: list[Callable[[], object]] = []
    runs = threading.Event()

    async def main() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopping.set))
        runs.set()
        await stopping.wait()
        seen.exceptions.append(StopAsyncIteration())

    @dramatiq.actor
    def task() -> None:
        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        try:
            runs.wait(PATIENCE)
            run_forever(seen.started)
        finally:
            stop[0]()
            thread.join()

    message = task.send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)

    assert is_aborted(message)
    assert seen.types() == [StopAsyncIteration]


def test_a_thread_of_the_loop_can_ask(seen: Seen, abortable: Abortable) -> None:
    """A thread of asyncio.to_thread() knows the message, and its checkpoint raises."""

    def compute() -> None:
        seen.started.set()
        try:
            sleep(PATIENCE * 1000)
        except BaseException as error:
            seen.exceptions.append(error)
            raise

    async def main() -> None:
        await asyncio.to_thread(compute)

    @dramatiq.actor
    def task() -> None:
        asyncio.run(main())

    message = task.send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)

    assert is_aborted(message)
    assert len(seen.exceptions) == 1
    assert isinstance(seen.exceptions[0], Abort)


async def compute_by_turns() -> None:
    """Run two tasks that are always ready, so that the thread is nearly always in a callback."""

    async def child() -> None:
        while True:
            await asyncio.sleep(0)

    await asyncio.gather(child(), child())


async def sleep_by_turns() -> None:
    """Run many tasks that mostly sleep: the thread is in asyncio, in select() and in the tasks."""

    async def child() -> None:
        while True:
            sum(range(1000))
            await asyncio.sleep(0.001)

    await asyncio.gather(*[child() for _ in range(20)])


async def end() -> None:
    """Finish at about the time when the abort arrives."""
    for _ in range(random.randrange(30)):
        await asyncio.sleep(0)


async def compute_beside() -> None:
    """Compute in a task that is not awaited, where exceptions are dropped."""

    async def child() -> None:
        while True:
            sum(range(1000))
            await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(child())]
    await asyncio.Event().wait()
    await tasks[0]


@pytest.mark.slow
@pytest.mark.parametrize("main", [compute_by_turns, sleep_by_turns, end, compute_beside])
@pytest.mark.parametrize("start_loop", [run, "keep"])
def test_no_abort_is_lost(
    start_loop: Callable[[Coroutine[Any, Any, Any]], Any] | str, main: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """No abort is lost at any moment in, before or after the loop, and the next message is undisturbed."""
    kept = asyncio.new_event_loop()
    begin = kept.run_until_complete if isinstance(start_loop, str) else start_loop
    started = threading.Semaphore(0)

    @dramatiq.actor
    def task() -> None:
        started.release()
        begin(main())
        run_forever()

    @dramatiq.actor
    def look() -> object:
        return begin(asyncio.sleep(0, "undisturbed"))

    for _ in range(100):
        message, following = task.send(), look.send()
        assert started.acquire(timeout=PATIENCE)
        for _ in range(random.randrange(20_000)):  # a moment later
            pass
        abort(message.message_id)
        assert is_aborted(message)
        assert result_of(following) == "undisturbed"
    for left in asyncio.all_tasks(kept):  # those that were not awaited
        left.cancel()
    kept.run_until_complete(asyncio.sleep(0))
    kept.close()


class Client:
    """A synchronous client that is asynchronous inside."""

    def __init__(self, start_loop: Callable[[Coroutine[Any, Any, Any]], Any], seen: Seen, steps: list[str]) -> None:
        self.start_loop, self.seen, self.steps = start_loop, seen, steps

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.start_loop(self.close())

    async def close(self) -> None:
        self.seen.started.set()
        while not self.seen.requested.is_set():
            await asyncio.sleep(0.001)
        self.steps.append("closed")


@needs_interrupts
@pytest.mark.parametrize("start_loop", WAYS)
def test_a_loop_that_protected_code_runs_is_not_cancelled(
    start_loop: Callable[[Coroutine[Any, Any, Any]], Any], seen: Seen, abortable: Abortable
) -> None:
    """A loop in protected code is not cancelled: the abort is raised after that code."""
    steps: list[str] = []

    @dramatiq.actor
    def task() -> None:
        with Client(start_loop, seen, steps):
            pass
        run_forever()

    message = task.send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    (running,) = running_in(abortable).with_key(key_of(message.message_id))
    answers = {running.interrupt() for _ in range(3)}
    seen.requested.set()

    assert is_aborted(message)
    assert answers <= {InterruptResult.ARMED, InterruptResult.PROTECTED}
    assert steps == ["closed"]


@pytest.mark.slow
@needs_trio
def test_no_abort_of_a_trio_run_is_lost() -> None:
    """Trio's tasks see a trio cancellation, the function an Abort, and the thread can run trio again."""
    started = threading.Semaphore(0)
    seen: set[type[BaseException]] = set()

    async def child() -> None:
        try:
            while True:
                await trio.sleep(0)
        except BaseException as error:
            seen.add(type(error))
            raise

    async def main() -> None:
        started.release()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(child)

    @dramatiq.actor
    def task() -> None:
        trio.run(main)

    for _ in range(100):
        message = task.send()
        assert started.acquire(timeout=PATIENCE)
        for _ in range(random.randrange(20_000)):  # a moment later
            pass
        abort(message.message_id)
        assert is_aborted(message)
    assert seen <= {trio.Cancelled}


@needs_trio
def test_a_trio_task_that_computes_is_aborted_behind_its_run(seen: Seen, abortable: Abortable) -> None:
    """A trio task without another checkpoint is aborted after its run, with or without a shield."""
    steps: list[str] = []

    async def main() -> None:
        async with shield():
            seen.started.set()
            seen.requested.wait(PATIENCE)
        steps.append("computed")

    @dramatiq.actor
    def task() -> None:
        trio.run(main)
        steps.append("next statement")

    message = task.send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    seen.requested.set()

    assert is_aborted(message)
    assert steps == ["computed"]


def test_loops_outside_of_messages_are_run_as_they_are() -> None:
    """Loops on a thread without a message are unaffected by a worker in the process."""
    with new_loop() as loop:
        assert loop.run_until_complete(asyncio.sleep(0, "done")) == "done"
        task = loop.create_task(asyncio.sleep(0, "done"))
        assert loop.run_until_complete(task) == "done"
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert asyncio.run(asyncio.sleep(0, "done")) == "done"


def test_errors_are_asyncios_own(seen: Seen) -> None:
    """Closed, nested and early stopped loops and invalid awaitables raise asyncio's own errors."""

    async def nest() -> None:
        inner = asyncio.sleep(0)
        try:
            with new_loop() as loop:
                loop.run_until_complete(inner)
        finally:
            inner.close()

    async def stop() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    @dramatiq.actor
    def task() -> list[str]:
        errors = []
        with new_loop() as loop:
            pass
        coroutine = asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="closed"):
            loop.run_until_complete(coroutine)
        coroutine.close()
        with pytest.raises(RuntimeError, match="another loop is running"):
            asyncio.run(nest())
        with new_loop() as loop:
            with pytest.raises(RuntimeError, match="stopped before"):
                loop.run_until_complete(stop())
            loop.run_until_complete(asyncio.sleep(0.001))  # and the coroutine ends
            with pytest.raises(TypeError):
                loop.run_until_complete(3)  # type: ignore[arg-type]
        errors.append("all")
        return errors

    assert result_of(task.send()) == ["all"]


def test_what_starts_loops_is_put_back(broker: Any) -> None:
    """The functions that start loops are restored when the process's last worker has stopped."""
    entries = [(asyncio.BaseEventLoop, "run_until_complete"), (asyncio.BaseEventLoop, "run_forever")]
    if sys.version_info >= (3, 11):
        entries.append((asyncio.Runner, "run"))
    during = [getattr(*entry) for entry in entries]
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=10)
    worker.start()
    worker.stop()
    assert [getattr(*entry) for entry in entries] == during
    assert all(hasattr(function, "__wrapped__") for function in during)
