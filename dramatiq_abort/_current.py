"""What this thread, greenlet or coroutine is running."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._processing import Processing
    from ._running import Running

__all__ = ["current", "here", "in_this_thread", "processings"]

#: The message that is being processed here, if it can be aborted. A context variable, so that it is right in
#: greenlets, in coroutines and in the threads that copy their starter's context, too.
current: ContextVar[Running | None] = ContextVar("dramatiq_abort.current", default=None)

#: Those of this process that have workers.
processings: list[Processing] = []


def here() -> Running | None:
    """Return the message that is being processed here, also in a context that knows nothing of it."""
    running = current.get()
    return in_this_thread() if running is None else running


def in_this_thread() -> Running | None:
    """Return the message that this thread, or greenlet, has taken last and not let go of yet."""
    if not processings:
        return None
    ident = threading.get_ident()
    taken = [each for processing in processings for each in processing.running.all() if each.thread_id == ident]
    outers = [each.outer for each in taken]
    return next((each for each in taken if each not in outers), None)
