"""The scopes of what a thread runs an event loop for, inside the thread's own scope."""

from __future__ import annotations

import asyncio
from threading import get_ident
from typing import TYPE_CHECKING, Any, cast

from .._core.coroutines import Scope

if TYPE_CHECKING:
    from .._core.result import InterruptResult
    from ..interrupt import Scope as ThreadScope

__all__ = ["EndlessScope", "FutureScope", "LoopScope"]


class LoopScope(Scope):
    """The scope of the coroutine that a thread runs its loop for, inside the thread's own scope.

    It raises only what the thread's scope has not raised.

    Parameters:
      thread: The thread's scope.
    """

    __slots__ = ("_thread", "has_claimed")

    def __init__(self, thread: Any) -> None:
        super().__init__()
        self._thread: ThreadScope = thread
        #: Whether this scope has ever claimed the exception from the thread's scope.
        self.has_claimed: bool = False

    def interrupt(self, exception: type[BaseException]) -> InterruptResult:
        """Raise the exception that the thread's scope could not raise. That scope may have been rearmed."""
        self.rearm()
        return super().interrupt(exception)

    def revoke(self) -> bool:
        """Drop the exception if it has not been raised yet, even if only ``close()`` would raise it."""
        with self._changing:
            self._exception = None
            return not self._raised

    def close(self) -> bool:
        """Close the scope, and return whether the exception must still be raised, after the loop."""
        with self._changing:
            self._closed = True
            if self._due is not None:  # the coroutine has not reached an await since
                return True
            return self._exception is not None and not self._raised and self._claim()

    def has_come_out(self, error: BaseException | None) -> bool:
        """Return whether this scope's exception has ended the loop's run."""
        return self.has_claimed and isinstance(error, asyncio.CancelledError)

    def is_open(self) -> bool:
        return not self._closed

    def _claim(self) -> bool:
        is_claimed = self._thread.claim()
        self.has_claimed = self.has_claimed or is_claimed
        return is_claimed


class FutureScope(LoopScope):
    """The scope of an existing task or future, which is cancelled and sees a bare ``CancelledError``."""

    __slots__ = ()

    def __init__(self, thread: Any, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        super().__init__(thread)
        self._loop, self._thread_id, self._task = loop, get_ident(), future
        self._coroutine = cast("Any", future).get_coro() if isinstance(future, asyncio.Task) else None

    def _cancel(self) -> None:
        if self._task is not None and not self._task.done() and self._take() is not None:
            self._task.cancel()


class EndlessScope(LoopScope):
    """The scope of ``run_forever()``: the loop is stopped, and the exception is raised after it."""

    __slots__ = ()

    def __init__(self, thread: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(thread)
        self._loop, self._thread_id = loop, get_ident()

    def _cancel(self) -> None:
        if self._loop is not None and (exception := self._take()) is not None:
            self._due = exception
            self._loop.stop()
