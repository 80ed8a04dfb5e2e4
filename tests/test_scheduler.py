"""The scheduler's thread pursues each message until its function has ended (5)."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from support import PATIENCE

from dramatiq_abort._protocol.request import AbortRequest
from dramatiq_abort._worker.scheduler import InterruptScheduler
from dramatiq_abort.interrupt import InterruptResult


class Asked:
    """A message whose scopes return these results, one after another, until it ends."""

    message_id, actor_name, deadline, request = "message", "actor", 0.0, AbortRequest()
    is_pursued = is_warned_of = is_over = False

    def __init__(self, *answers: InterruptResult) -> None:
        self.left = list(answers)
        self.ended = threading.Event()

    def interrupt(self) -> InterruptResult:
        answer = self.left.pop(0)
        if not self.left:
            self.is_over = True
            self.ended.set()
        return answer

    def ring(self) -> None: ...

    def leave(self) -> bool:
        return False

    def fields(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("first", [InterruptResult.CLOSED, InterruptResult.RAISED, InterruptResult.PROTECTED])
def test_a_message_is_asked_until_it_is_over(first: InterruptResult) -> None:
    """A message is pursued even while its scope is closed: its function may continue in another scope."""
    deadlines = InterruptScheduler(logging.getLogger("test"), None)
    message: Any = Asked(first, InterruptResult.CLOSED, InterruptResult.PROTECTED, InterruptResult.RAISED)

    deadlines.interrupt(message)

    assert message.ended.wait(PATIENCE)
    deadlines.stop()


def test_one_whose_request_has_been_taken_back_is_asked_no_more() -> None:
    """A message whose request was restored, and whose scope is closed, is no longer pursued."""
    deadlines = InterruptScheduler(logging.getLogger("test"), None)

    class TakenBack(Asked):
        def interrupt(self) -> InterruptResult:
            self.is_pursued = False
            return super().interrupt()

    message: Any = TakenBack(InterruptResult.CLOSED, InterruptResult.RAISED)
    deadlines.interrupt(message)

    assert deadlines._due == []
    assert message.left == [InterruptResult.RAISED]
