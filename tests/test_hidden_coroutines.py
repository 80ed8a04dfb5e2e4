"""Wrapped coroutines of async actors, and coroutines of ordinary actors on dramatiq's event loop."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from contextvars import Context
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.asyncio import async_to_sync, get_event_loop_thread
from dramatiq.middleware import AsyncIO, Middleware
from support import PATIENCE, needs_interrupts, result_of, run_forever, stub_broker, wait_until_requested

from dramatiq_abort import Abort, Abortable, AsyncAbort, abort, abort_requested, shield
from dramatiq_abort.backends import StubBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from dramatiq.brokers.stub import StubBroker

    from dramatiq_abort import EventBackend

pytestmark = pytest.mark.usefixtures("core")


@pytest.fixture
def make_backend() -> Callable[[], EventBackend]:
    """Return a single backend: the origin of the request makes no difference here."""
    backend = StubBackend()
    return lambda: backend


@pytest.fixture(autouse=True)
def event_loop(broker: StubBroker) -> None:
    broker.add_middleware(AsyncIO())


def wrapped(fn: Any) -> Any:
    """Run code before the call, like a decorator."""

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return call


def unmarked(fn: Any) -> Any:
    """Do the same, without ``__wrapped__``."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return call


class Wraps(Middleware):
    """Wraps each actor's function, before or after Abortable does."""

    def __init__(self, wrap: Any) -> None:
        self.wrap = wrap

    def after_declare_actor(self, broker: Any, actor: Any) -> None:
        actor.fn = self.wrap(actor.fn)


def in_a_middleware_inside(broker: StubBroker, wrap: Any, coroutine: Any) -> Any:
    broker.add_middleware(Wraps(wrap))
    return dramatiq.actor(coroutine)


def in_a_middleware_outside(broker: StubBroker, wrap: Any, coroutine: Any) -> Any:
    broker.add_middleware(Wraps(wrap), before=Abortable)
    return dramatiq.actor(coroutine)


def before_the_declaration(broker: StubBroker, wrap: Any, coroutine: Any) -> Any:
    return dramatiq.actor(wrap(async_to_sync(coroutine)), actor_name="task")


def behind_the_declaration(broker: StubBroker, wrap: Any, coroutine: Any) -> Any:
    actor = dramatiq.actor(coroutine)
    actor.fn = wrap(actor.fn)
    return actor


def of_another_actor(broker: StubBroker, wrap: Any, coroutine: Any) -> Any:
    return dramatiq.actor(wrap(dramatiq.actor(coroutine).fn), actor_name="other")


def on_two_brokers(broker: StubBroker, wrap: Any, coroutine: Any) -> Any:
    first = stub_broker(Abortable(backend=StubBackend()), AsyncIO())
    return dramatiq.actor(wrap(dramatiq.actor(coroutine, broker=first).fn), actor_name="task")


def in_a_fresh_context(broker: StubBroker, wrap: Any, coroutine: Any) -> Any:
    run = async_to_sync(coroutine)
    return dramatiq.actor(wrap(lambda: Context().run(run)), actor_name="task")


def on_the_loop(broker: StubBroker, wrap: Any, coroutine: Any) -> Any:
    @wrap
    def task() -> Any:
        thread = get_event_loop_thread()
        assert thread is not None
        return thread.run_coroutine(coroutine())

    return dramatiq.actor(task, actor_name="task")


WAYS = [
    in_a_middleware_inside,
    in_a_middleware_outside,
    before_the_declaration,
    behind_the_declaration,
    of_another_actor,
    on_two_brokers,
    in_a_fresh_context,
    on_the_loop,
]


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [wrapped, unmarked])
@pytest.mark.parametrize("declare", WAYS)
def test_a_hidden_coroutine_is_one(broker: StubBroker, start_worker: Any, declare: Any, wrap: Any) -> None:
    """A wrapped coroutine sees an AsyncAbort after its shield, and may clean up for more than a second."""
    started, cleaned = threading.Event(), threading.Event()
    seen: list[Any] = []

    async def task() -> None:
        try:
            with shield():
                started.set()
                while abort_requested() is None:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.01)
                seen.append("whole")
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            seen.append(type(error))
            await asyncio.sleep(1.2)
            cleaned.set()
            raise

    actor = declare(broker, wrap, task)
    start_worker()
    before = time.monotonic()
    message = actor.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")
    assert seen == ["whole", AsyncAbort]
    assert cleaned.is_set()
    assert time.monotonic() - before > 1.2


@needs_interrupts
@pytest.mark.parametrize("where", ["before", "first", "between", "second", "behind"])
def test_a_function_that_runs_coroutines_in_between(
    broker: StubBroker, start_worker: Any, abortable: Abortable, where: str
) -> None:
    """A function that also runs coroutines is aborted once, in either."""
    started = threading.Event()
    seen: list[Any] = []

    async def coroutine(name: str) -> None:
        if name == where:
            started.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    def at(name: str) -> None:
        if name == where:
            run_forever(started)

    @dramatiq.actor
    def task() -> None:
        run = async_to_sync(coroutine)
        try:
            at("before")
            run("first")
            at("between")
            run("second")
            at("behind")
        except BaseException as error:
            seen.append(type(error))
            run("clean-up")
            seen.append("clean")
            raise

    start_worker()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")
    assert seen == [Abort, "clean"]


def test_a_shield_around_a_coroutine_holds_for_it(broker: StubBroker, start_worker: Any, abortable: Abortable) -> None:
    """A shield around a coroutine holds back aborts before and in it until the shield's end."""
    started = threading.Event()
    seen = []

    async def coroutine() -> None:
        wait_until_requested(abortable, message)
        await asyncio.sleep(0.01)
        seen.append("coroutine")

    @dramatiq.actor
    def task() -> None:
        with shield():
            started.set()
            for _ in range(2):
                async_to_sync(coroutine)()
        seen.append("behind")

    message = task.message()
    start_worker()
    broker.enqueue(message)
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    assert seen == ["coroutine"] * 2


@needs_interrupts
def test_an_abort_that_comes_as_the_coroutine_returns_is_not_lost(
    broker: StubBroker, start_worker: Any, abortable: Abortable
) -> None:
    """An abort that arrives as a coroutine returns is raised in the function, in its thread."""

    async def coroutine() -> str:
        abort(message.message_id)
        wait_until_requested(abortable, message)
        return "returned"

    @dramatiq.actor
    def task() -> None:
        assert async_to_sync(coroutine)() == "returned"
        run_forever()

    message = task.message()
    start_worker()
    broker.enqueue(message)

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")


@needs_interrupts
def test_it_is_raised_again_in_whichever_scope(broker: StubBroker, start_worker: Any) -> None:
    """With ``repeat_every``, an abort caught in a coroutine is raised in the thread, and vice versa."""
    started = threading.Event()
    seen: list[Any] = []

    async def coroutine() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except Abort as aborted:
            seen.append(type(aborted))

    @dramatiq.actor
    def task() -> str:
        for _ in range(2):
            async_to_sync(coroutine)()
            try:
                run_forever()
            except Abort as aborted:
                seen.append(type(aborted))
        return "went on"

    start_worker()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, repeat_every=10)

    assert result_of(message) == "went on"
    assert seen == [AsyncAbort, Abort] * 2
