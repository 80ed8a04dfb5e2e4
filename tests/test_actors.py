"""What Abortable does to actors: which of them can be aborted, and what a direct call of one is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from support import PATIENCE, result_of, run_forever

from dramatiq_abort import Abortable, abort, abort_requested, shield

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
    """Whether it can be aborted."""
    abortable.abortable = on_middleware
    options = {} if on_actor is None else {"abortable": on_actor}

    @dramatiq.actor(**options)
    def task() -> str:
        return "ran"

    message = task.send_with_options(**({} if on_message is None else {"abortable": on_message}))
    abort(message.message_id)
    start_worker()

    assert result_of(message) == (None if expected else "ran")


def test_an_actor_is_a_plain_function_outside_of_a_worker(worker: dramatiq.Worker) -> None:
    """Called directly, by a test or by another actor, nothing of its own is aborted."""

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
    """It runs in the caller's scope."""
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
