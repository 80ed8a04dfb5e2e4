"""What Abortable does to actors: which of them can be aborted, and how direct calls of them behave."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.middleware import AsyncIO
from dramatiq.results import Results
from support import PATIENCE, Forgetting, needs_interrupts, result_of, run_forever, wait_until

from dramatiq_abort import Abort, Abortable, abort, abort_requested, shield

if TYPE_CHECKING:
    from dramatiq.brokers.stub import StubBroker

pytestmark = pytest.mark.usefixtures("core")


@pytest.mark.parametrize(
    ("on_middleware", "on_actor", "on_message", "expected"),
    [
        (True, None, None, True),
        (False, None, None, False),
        (False, True, None, True),
        (True, False, None, False),
        (True, True, False, False),
        (False, False, True, True),
    ],
)
def test_the_message_decides_before_the_actor_before_the_middleware(
    abortable: Abortable,
    broker: StubBroker,
    start_worker: Any,
    on_middleware: bool,
    on_actor: bool | None,
    on_message: bool | None,
    expected: bool,
) -> None:
    """The ``abortable`` of a message overrides the actor's, which overrides the middleware's."""
    abortable.abortable = on_middleware
    options = {} if on_actor is None else {"abortable": on_actor}

    @dramatiq.actor(**options)
    def task() -> str:
        return "ran"

    message = task.send_with_options(**({} if on_message is None else {"abortable": on_message}))
    abort(message.message_id)
    start_worker()

    assert result_of(message) == (None if expected else "ran")


class Thing:
    """An object that a task holds."""


@pytest.mark.slow
@needs_interrupts
@pytest.mark.parametrize("kind", ["abort", "another exception", "coroutine", "own Abort"])
def test_nothing_that_the_task_had_is_kept(
    broker: StubBroker, start_worker: Any, kind: str, request: pytest.FixtureRequest
) -> None:
    """The task's objects are released with the exception, so that a connection returns to its pool, say."""
    broker.add_middleware(AsyncIO())
    broker.add_middleware(Forgetting(), before=Results)
    started = threading.Event()
    things: list[weakref.ref[Thing]] = []

    def have() -> Thing:
        thing = Thing()
        things.append(weakref.ref(thing))
        return thing

    @dramatiq.actor
    def task() -> None:
        thing = have()
        try:
            run_forever(started)
        except Abort:
            if kind == "another exception":
                raise ValueError(thing) from None
            raise

    @dramatiq.actor
    async def coroutine() -> None:
        thing = have()
        started.set()
        try:
            await asyncio.Event().wait()
        except Abort:
            if kind == "own Abort":
                raise Abort(thing) from None
            raise

    start_worker()
    logging.disable()  # pytest keeps log records with their tracebacks
    gc.collect()
    gc.disable()
    request.addfinalizer(lambda: (gc.enable(), logging.disable(logging.NOTSET)))
    message = (coroutine if kind in {"coroutine", "own Abort"} else task).send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    wait_until(lambda: things[0]() is None, "the end of what it had")


def test_an_actor_is_a_plain_function_outside_of_a_worker(worker: dramatiq.Worker) -> None:
    """An actor that is called directly, by a test or by another actor, is a plain function."""

    @dramatiq.actor
    def inner(number: int) -> int:
        assert abort_requested() is None
        with shield():
            return number + 1

    @dramatiq.actor
    def outer(number: int) -> int:
        return inner(number) + inner.fn(number)

    assert inner(1) == 2
    assert inner.fn(1) == 2
    assert result_of(outer.send(1)) == 4


def test_an_actor_that_is_called_directly_is_aborted_with_its_caller(worker: dramatiq.Worker) -> None:
    """An actor that is called directly runs in its caller's scope."""
    started = threading.Event()

    @dramatiq.actor
    def inner() -> None:
        run_forever(started)

    @dramatiq.actor
    def outer() -> None:
        inner()

    message = outer.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
