"""Guarantee 9, the same everywhere: messages that do not run in threads are aborted in the same way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.middleware import AsyncIO
from support import PATIENCE, needs_interrupts, result_of, wait_until

from dramatiq_abort import abort

if TYPE_CHECKING:
    from dramatiq.brokers.stub import StubBroker

pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.sanitized]


@needs_interrupts
def test_a_coroutine_that_has_begun_is_cancelled(broker: StubBroker, start_worker: Any) -> None:
    """(2, 9) An async actor is aborted at any moment, and its coroutine never outlives the message."""
    broker.add_middleware(AsyncIO())
    begun: list[int] = []
    ended: list[str] = []

    @dramatiq.actor
    async def task(number: int) -> None:
        begun.append(number)
        try:
            await asyncio.sleep(PATIENCE)
            ended.append("finished")
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    start_worker()
    for number in range(30):
        message = task.send(number)
        if number % 3:
            wait_until(lambda number=number: begun and begun[-1] == number)  # type: ignore[misc]
        abort(message.message_id)
        assert result_of(message) in {None, ("Abort", f"message {message.message_id} was aborted")}
    wait_until(lambda: len(ended) == len(begun))

    assert begun
    assert set(ended) == {"cancelled"}
