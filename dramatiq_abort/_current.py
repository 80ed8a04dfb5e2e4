"""What this thread, greenlet or coroutine is running."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._running import Running

__all__ = ["current"]

#: The message that is being processed here, if it can be aborted. A context variable, so that it is right in
#: greenlets, in coroutines and in the threads that copy their starter's context, too.
current: ContextVar[Running | None] = ContextVar("dramatiq_abort.current", default=None)
