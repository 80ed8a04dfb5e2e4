"""The approach that does not work, for comparison: open in one hook, close in another."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from dramatiq.middleware import Middleware, raise_thread_exception

from dramatiq_abort import Abort, Outcome, OutcomeState

if TYPE_CHECKING:
    from collections.abc import Callable


class NaiveAbortable(Middleware):
    """Records which thread runs a message between the two hooks, and raises in that thread."""

    def __init__(self, on_outcome: Callable[[Outcome], object]) -> None:
        self._on_outcome = on_outcome
        self._threads: dict[str, int] = {}

    def before_process_message(self, broker, message):
        self._threads[message.message_id] = threading.get_ident()

    def after_process_message(self, broker, message, *, result=None, exception=None):
        self._threads.pop(message.message_id, None)

    after_skip_message = after_process_message

    def abort(self, message_id: str) -> None:
        thread = self._threads.pop(message_id, None)
        if thread is not None:
            raise_thread_exception(thread, Abort)
            self._on_outcome(Outcome(message_id, OutcomeState.ABORTED))
