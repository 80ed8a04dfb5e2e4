"""Async actors: the coroutine sees the abort where it awaits, as a cancellation to asyncio."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.asyncio import get_event_loop_thread
from dramatiq.middleware import AsyncIO, CurrentMessage
from support import PATIENCE, configure, needs_threads, result_of, wait_until, wait_until_requested

from dramatiq_abort import Abort, Abortable, AsyncAbort, abort, abort_requested, shield
from dramatiq_abort.backends import StubBackend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from dramatiq.brokers.stub import StubBroker
    from dramatiq.message import Message

    from dramatiq_abort import EventBackend

needs_task_groups = pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has no task groups yet")


@pytest.fixture
def make_backend() -> Callable[[], EventBackend]:
    """Return a single backend: the origin of the request makes no difference here."""
    backend = StubBackend()
    return lambda: backend


@pytest.fixture(autouse=True)
def event_loop(broker: StubBroker, start_worker: Any) -> None:
    """Return dramatiq's event loop, with a single worker thread, which a stuck coroutine would block visibly."""
    broker.add_middleware(AsyncIO())
    broker.add_middleware(CurrentMessage())
    start_worker(worker_threads=1)


class Seen:
    """Records what a coroutine has seen."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.ended = threading.Event()
        self.exceptions: list[BaseException] = []
        self.children: list[BaseException] = []

    async def child(self) -> None:
        """Wait in a task of its own."""
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            self.children.append(error)
            raise

    def actor(self, wait: Callable[[Seen], Awaitable[object]]) -> dramatiq.Actor[[], Awaitable[None]]:
        """Return an actor that waits in this way and records the exception raised there."""

        @dramatiq.actor(actor_name=wait.__name__)
        async def task() -> None:
            asyncio.get_running_loop().call_soon(self.started.set)  # when it waits
            try:
                await wait(self)
            except BaseException as error:
                self.exceptions.append(error)
                raise
            finally:
                self.ended.set()

        return task


def is_aborted(message: Message[Any]) -> bool:
    return bool(result_of(message) == ("Abort", f"message {message.message_id} was aborted"))


@contextmanager
def silent_server() -> Iterator[int]:
    """Return the port of a server on which connections can be opened, but are never accepted."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def sleep(_: Seen) -> None:
    await asyncio.sleep(PATIENCE)


async def wait_for_an_event(_: Seen) -> None:
    await asyncio.Event().wait()


async def wait_for_a_queue(_: Seen) -> None:
    await asyncio.Queue[None]().get()


async def wait_for_a_lock(_: Seen) -> None:
    lock = asyncio.Lock()
    async with lock, lock:
        pass


async def wait_for_a_condition(_: Seen) -> None:
    condition = asyncio.Condition()
    async with condition:
        await condition.wait()


async def wait_for_a_future(_: Seen) -> None:
    await asyncio.get_running_loop().create_future()


async def wait_for_a_thread(seen: Seen) -> None:
    await asyncio.to_thread(seen.ended.wait, PATIENCE)


async def read_from_a_socket(_: Seen) -> None:
    with silent_server() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()


async def wait_in_a_generator(_: Seen) -> None:
    async def generate() -> Any:
        yield await asyncio.Event().wait()

    async for _number in generate():
        pass


async def wait_with_a_limit(_: Seen) -> None:
    await asyncio.wait_for(asyncio.Event().wait(), PATIENCE)


async def gather(seen: Seen) -> None:
    await asyncio.gather(seen.child(), seen.child())


async def wait_for_a_task(seen: Seen) -> None:
    await asyncio.create_task(seen.child())


async def wait_shielded(_: Seen) -> None:
    await asyncio.shield(asyncio.get_running_loop().create_future())


async def wait_in_a_timeout(_: Seen) -> None:
    async with asyncio.timeout(PATIENCE):
        await asyncio.Event().wait()


async def wait_in_a_task_group(seen: Seen) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(seen.child())
        group.create_task(seen.child())
        await asyncio.Event().wait()


async def wait_for_a_task_group(seen: Seen) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(seen.child())
        group.create_task(seen.child())


async def sleep_with_anyio(_: Seen) -> None:
    anyio = pytest.importorskip("anyio")
    await anyio.sleep(PATIENCE)


async def wait_in_a_task_group_of_anyio(seen: Seen) -> None:
    anyio = pytest.importorskip("anyio")
    async with anyio.create_task_group() as group:
        group.start_soon(seen.child)
        group.start_soon(seen.child)
        await anyio.sleep(PATIENCE)


async def wait_in_a_timeout_of_anyio(_: Seen) -> None:
    anyio = pytest.importorskip("anyio")
    with anyio.fail_after(PATIENCE):
        await anyio.sleep(PATIENCE)


async def request_with_aiohttp(seen: Seen) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    with silent_server() as port:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/"):
            pass


#: How an abort is raised in each wait, with the number of children that are cancelled with it.
WAYS_TO_WAIT = [
    (sleep, 0),
    (wait_for_an_event, 0),
    (wait_for_a_queue, 0),
    (wait_for_a_lock, 0),
    (wait_for_a_condition, 0),
    (wait_for_a_future, 0),
    (wait_for_a_thread, 0),
    (read_from_a_socket, 0),
    (wait_in_a_generator, 0),
    (wait_with_a_limit, 0),
    (gather, 2),
    (wait_for_a_task, 1),
    (wait_shielded, 0),
    pytest.param(wait_in_a_timeout, 0, marks=needs_task_groups),
    pytest.param(wait_in_a_task_group, 2, marks=needs_task_groups),
    pytest.param(wait_for_a_task_group, 2, marks=needs_task_groups),
    (sleep_with_anyio, 0),
    (wait_in_a_task_group_of_anyio, 2),
    (wait_in_a_timeout_of_anyio, 0),
    (request_with_aiohttp, 0),
]


@pytest.mark.parametrize(("wait", "children"), WAYS_TO_WAIT)
def test_an_abort_comes_up_where_a_coroutine_awaits(wait: Any, children: int) -> None:
    """(9) An abort is raised at the await as an Abort and a CancelledError, and awaited tasks are cancelled."""
    if "anyio" in wait.__name__:
        pytest.importorskip("anyio")
    if "aiohttp" in wait.__name__:
        pytest.importorskip("aiohttp")
    seen = Seen()
    message = seen.actor(wait).send()
    assert seen.started.wait(PATIENCE)

    abort(message.message_id)

    assert is_aborted(message)
    (exception,) = seen.exceptions
    assert type(exception) is AsyncAbort
    assert isinstance(exception, asyncio.CancelledError)
    assert isinstance(exception, Abort)
    assert exception.message_id == message.message_id
    assert [type(error) for error in seen.children] == [asyncio.CancelledError] * children


@pytest.mark.parametrize("caught", [Abort, AsyncAbort, asyncio.CancelledError])
def test_a_coroutine_catches_it_by_each_name(caught: type[BaseException]) -> None:
    """A coroutine can catch the abort by either class, and clean up with awaits."""
    started = threading.Event()
    cleaned: list[str] = []

    @dramatiq.actor
    async def task() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except caught:
            await asyncio.sleep(0)
            cleaned.append("up")
            raise

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert is_aborted(message)
    assert cleaned == ["up"]


@needs_task_groups
def test_a_timeout_of_its_own_is_no_abort() -> None:
    """Cancellations by other code stay as they are, and the message does not count as aborted."""

    @dramatiq.actor
    async def task() -> list[str]:
        seen = []
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError as error:
            seen.append(type(error.__cause__).__name__)
        child = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)
        child.cancel()
        try:
            await child
        except asyncio.CancelledError as error:
            seen.append(type(error).__name__)
        return seen

    assert result_of(task.send()) == ["CancelledError", "CancelledError"]


@needs_task_groups
def test_an_abort_is_not_taken_for_a_timeout() -> None:
    """An abort that arrives after the time of a timeout, in a shield, is not taken for the timeout."""
    started = threading.Event()
    requested = threading.Event()

    @dramatiq.actor
    async def task() -> str:
        try:
            async with asyncio.timeout(None) as timeout:
                with shield():
                    started.set()
                    while not requested.is_set():
                        await asyncio.sleep(0.001)
                    timeout.reschedule(0)
                    await asyncio.Event().wait()
        except TimeoutError:
            await asyncio.Event().wait()  # counts the places where the abort is raised
        return "went on"

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(_abortable(), message)
    requested.set()

    assert is_aborted(message)


def test_a_coroutine_that_returns_has_completed() -> None:
    """(2) A coroutine that returns has completed, however late the abort arrives."""
    started = threading.Event()
    requested = threading.Event()

    @dramatiq.actor
    async def task() -> str:
        started.set()
        requested.wait(PATIENCE)  # blocks the loop, in which the task would be cancelled
        return "done"

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(_abortable(), message)
    requested.set()

    assert result_of(message) == "done"


def test_an_abort_in_front_of_the_call_comes_up_instead(broker: StubBroker) -> None:
    """An abort that arrives in another middleware's hook is raised instead of the call."""
    called: list[str] = []
    started, requested = threading.Event(), threading.Event()

    class Slow(dramatiq.Middleware):
        def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:
            started.set()
            requested.wait(PATIENCE)

    broker.add_middleware(Slow())

    @dramatiq.actor
    async def task() -> None:
        called.append("task")

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(_abortable(), message)
    requested.set()

    assert is_aborted(message)
    assert called == []


def test_a_child_that_swallows_the_cancellation_does_not_swallow_the_abort() -> None:
    """(5) The abort is raised even if an awaited task catches the cancellation and returns."""
    seen = Seen()

    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "went on"
        return "never"

    async def wait(_: Seen) -> None:
        await asyncio.create_task(stubborn())
        await asyncio.Event().wait()

    message = seen.actor(wait).send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)

    assert is_aborted(message)
    assert [type(error) for error in seen.exceptions] == [AsyncAbort]


def test_a_coroutine_that_catches_it_and_goes_on_has_completed() -> None:
    """A coroutine that catches the abort and returns has completed, like any function."""
    started = threading.Event()

    @dramatiq.actor
    async def task() -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except Abort:
            await asyncio.sleep(0.001)
        return "went on"

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message) == "went on"


def test_one_that_makes_something_else_of_it_is_not_retried() -> None:
    """(4) A coroutine that turns the abort into another exception is not retried, like any function."""
    started = threading.Event()
    runs: list[int] = []

    @dramatiq.actor(min_backoff=1, max_backoff=1)
    async def task() -> None:
        runs.append(1)
        started.set()
        try:
            await asyncio.Event().wait()
        except Abort:
            raise OSError("disk") from None

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted, and then raised OSError")
    assert runs == [1]


def test_it_is_raised_again_where_that_is_asked_for() -> None:
    """With ``repeat_every``, a coroutine that catches the abort and goes on is aborted again."""
    started = threading.Event()
    caught: list[int] = []

    @dramatiq.actor
    async def task() -> None:
        started.set()
        while len(caught) < 3:
            try:
                await asyncio.Event().wait()
            except Abort:
                caught.append(1)
        raise Abort

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, repeat_every=1)

    assert is_aborted(message)


def test_the_clean_up_may_take_its_time() -> None:
    """A coroutine's clean-up may take longer than the second that dramatiq allows."""
    seen = Seen()

    async def wait(_: Seen) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1.3)

    message = seen.actor(wait).send()
    assert seen.started.wait(PATIENCE)
    before = time.monotonic()
    abort(message.message_id)

    assert is_aborted(message)
    assert time.monotonic() - before > 1.2
    assert [type(error) for error in seen.exceptions] == [AsyncAbort]


@pytest.mark.usefixtures("core")
@pytest.mark.parametrize("is_stubborn", [False, True])
def test_a_worker_thread_leaves_a_coroutine_that_cleans_up_for_too_long(
    abortable: Abortable, is_stubborn: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """After ``cleanup_timeout``, a coroutine is cancelled again, then abandoned, so that other messages run."""
    if not _can_leave():
        pytest.skip("this interpreter cannot raise an exception in a thread")
    configure(abortable, cleanup_timeout=20)
    seen = Seen()
    released = threading.Event()

    async def wait(_: Seen) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            while not released.is_set():
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    if not is_stubborn:
                        raise

    @dramatiq.actor
    async def other() -> str:
        return "ran"

    message = seen.actor(wait).send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)

    outcome = result_of(message)
    assert outcome[0] == "Abort"
    wait_until(lambda: "is still cleaning up" in caplog.text)
    assert not seen.ended.is_set() if is_stubborn else seen.ended.wait(PATIENCE)
    assert result_of(other.send()) == "ran"
    released.set()
    assert seen.ended.wait(PATIENCE)


def _can_leave() -> bool:
    return sys.implementation.name == "cpython"


@pytest.mark.parametrize("kind", ["with", "async with"])
def test_a_shield_holds_it_up(kind: str) -> None:
    """A shield, with either statement, holds the abort back until its end."""
    seen = Seen()
    release = threading.Event()
    steps: list[str] = []

    async def critical() -> None:
        seen.started.set()
        while not release.is_set():
            await asyncio.sleep(0.001)
        steps.append("whole")

    async def wait(_: Seen) -> None:
        if kind == "with":
            with shield(), shield():
                await critical()
        else:
            async with shield(), shield():
                await critical()
        steps.append("behind")

    message = seen.actor(wait).send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(_abortable(), message)
    release.set()

    assert is_aborted(message)
    assert steps == ["whole"]
    assert type(seen.exceptions[0]) is AsyncAbort


@pytest.mark.parametrize("where", ["task", "thread"])
def test_a_shield_holds_it_up_in_whatever_the_coroutine_has_started(where: str) -> None:
    """A shield in a task or thread that the coroutine awaits holds the abort back."""
    seen = Seen()
    entered, release = threading.Event(), threading.Event()
    steps: list[str] = []

    async def in_a_task() -> None:
        with shield():
            entered.set()
            while not release.is_set():
                await asyncio.sleep(0.001)
            steps.append("whole")

    def in_a_thread() -> None:
        with shield():
            entered.set()
            assert release.wait(PATIENCE)
            steps.append("whole")

    async def wait(_: Seen) -> None:
        if where == "task":
            await asyncio.gather(in_a_task())
        else:
            await asyncio.to_thread(in_a_thread)
        await asyncio.Event().wait()

    message = seen.actor(wait).send()
    assert entered.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(_abortable(), message)
    release.set()

    assert is_aborted(message)
    assert steps == ["whole"]


@needs_threads
def test_a_shield_is_no_more_than_a_context_manager_outside_of_a_message() -> None:
    """Outside a message, a shield does nothing, so tests can await the coroutine function."""

    async def main() -> str:
        async with shield():
            with shield():
                return "ran"

    assert asyncio.run(main()) == "ran"


def test_the_message_is_known_wherever_the_coroutine_goes() -> None:
    """The message is known in the coroutine, in its tasks, and in its ``to_thread`` threads."""
    seen = Seen()
    known: list[tuple[str, float | None, str | None]] = []
    looked = threading.Event()

    def look(where: str) -> None:
        message = CurrentMessage.get_current_message()
        known.append((where, abort_requested(), None if message is None else message.message_id))

    async def look_in_a_task() -> None:
        look("task")

    async def wait(_: Seen) -> None:
        look("before")
        seen.started.set()
        while abort_requested() is None:
            await asyncio.sleep(0.001)
        look("itself")
        await asyncio.create_task(look_in_a_task())
        await asyncio.to_thread(look, "thread")
        looked.set()
        await asyncio.Event().wait()

    message = seen.actor(wait).send()
    assert seen.started.wait(PATIENCE)
    abort(message.message_id, abort_timeout=2 * PATIENCE * 1000)
    assert looked.wait(PATIENCE)
    abort(message.message_id)

    assert is_aborted(message)
    assert [where for where, _, _ in known] == ["before", "itself", "task", "thread"]
    assert {message_id for _, _, message_id in known} == {message.message_id}
    (_, before, _), *after = known
    assert before is None
    assert all(left is not None and left > 0 for _, left, _ in after)


def test_a_storm_of_coroutines() -> None:
    """(1, 2) Coroutines aborted around their end complete or are aborted, and leave nothing in the loop."""
    started = threading.Semaphore(0)
    ended: list[int] = []

    @dramatiq.actor
    async def task(number: int) -> int:
        started.release()
        try:
            for _ in range(number % 4):
                await asyncio.sleep(0)
        finally:
            ended.append(number)
        return number

    messages = [task.send(number) for number in range(300)]
    for message in messages:
        started.acquire(timeout=0.002)
        abort(message.message_id)
    outcomes = [result_of(message) for message in messages]

    for number, (message, outcome) in enumerate(zip(messages, outcomes, strict=True)):
        assert outcome in {number, None} or outcome == ("Abort", f"message {message.message_id} was aborted")
        assert (outcome is not None) or number not in ended
    thread = get_event_loop_thread()
    assert thread is not None
    wait_until(lambda: not asyncio.all_tasks(thread.loop), "the end of all tasks")


def _abortable() -> Abortable:
    return next(each for each in dramatiq.get_broker().middleware if isinstance(each, Abortable))


@pytest.mark.skipif(not (3, 11) <= sys.version_info[:2] <= (3, 12), reason="only these accept no subclasses")
@pytest.mark.parametrize("is_async", [False, True])
def test_task_groups_change_where_coroutines_run(is_async: bool) -> None:
    """Only a worker with async actors replaces asyncio's TaskGroup class."""
    code = f"""
import asyncio
import dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import AsyncIO
from dramatiq_abort import Abortable

before = asyncio.TaskGroup.__aexit__
broker = StubBroker(middleware=[AsyncIO(), Abortable()])
dramatiq.set_broker(broker)

@dramatiq.actor
{"async " * is_async}def task():
    pass

worker = dramatiq.Worker(broker, worker_threads=1)
worker.start()
task.send()
broker.join(task.queue_name)
worker.join()
print(asyncio.TaskGroup.__aexit__ is before)
worker.stop()
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout == f"{not is_async}\n", done.stderr
