"""The scope of a coroutine: the same interface as ``interrupt.Scope``, for asyncio.

A task can be cancelled only where it awaits, and only by its own loop. So the scope cannot close between a check and
the action that relies on it, as long as both are done in that loop: a coroutine that has returned is never cancelled.

asyncio throws a bare ``CancelledError``. On its way into the function it is replaced by the scope's own exception,
which must be a ``CancelledError`` as well. So the function's ``except`` catches it, and asyncio treats it as it treats
any cancellation (in timeouts, task groups, ``gather``, ``shield``).
"""

from __future__ import annotations

import asyncio
import time
import types
from contextlib import suppress
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from .result import InterruptResult
from .shield import AnyShield, ShieldInPython
from .task_groups import accept_subclasses

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from types import FrameType, TracebackType

__all__ = ["Scope"]

_R = TypeVar("_R")

#: How long an interrupt from another thread pauses, in seconds. It is about the time that the loop's thread takes to
#: wake up. Without the pause, that thread would have to wait for the GIL until this one waits for something.
_PAUSE: Final = 0.0001


class Scope:
    """The part of a coroutine's execution in which an exception may be raised from any thread: see ``interrupt.Scope``.

    It is raised where the function awaits. A shield delays it, whichever of the function's tasks or threads is inside.
    """

    __slots__ = (
        "_changing",
        "_closed",
        "_coroutine",
        "_due",
        "_exception",
        "_loop",
        "_raised",
        "_shields",
        "_task",
        "_thread_id",
    )

    #: Whose event loop it is.
    library: ClassVar[str] = "asyncio"

    def __init__(self) -> None:
        self._changing = Lock()
        self._task: asyncio.Future[Any] | None = None
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id: int | None = None
        self._exception: type[BaseException] | None = None
        #: The exception for which the task has been cancelled, until the function gets it.
        self._due: type[BaseException] | None = None
        self._closed = False
        self._raised = False
        self._shields = 0

    async def run(
        self,
        function: Callable[..., Coroutine[Any, Any, _R]],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> _R:
        """Await ``function(*args, **kwargs)`` in this scope, and return what it returns.

        Raises:
          RuntimeError: If the scope has been run before.
        """
        if self._closed or self._task is not None:
            raise RuntimeError("this scope has been run before: make a new Scope for each call")
        accept_subclasses()
        self._loop = asyncio.get_running_loop()
        self._thread_id = get_ident()
        self._task = asyncio.current_task()
        try:
            if (exception := self._take()) is not None:
                raise exception
            result = await self._steps(function(*args, **(kwargs or {})))
        except asyncio.CancelledError as cancelled:
            if (exception := await self._absorb()) is None:
                raise
            raise exception from cancelled  # the function has ended before it saw the cancellation
        else:
            await self._absorb()
            return result
        finally:
            self._closed = True
            self._task = self._coroutine = None

    def interrupt(self, exception: type[BaseException]) -> InterruptResult:
        """Raise ``exception`` where the function awaits, and return what became of it. Can be called from any thread.

        Raises:
          TypeError: If ``exception`` is not a subclass of ``asyncio.CancelledError``.
        """
        if not isinstance(exception, type) or not issubclass(exception, asyncio.CancelledError):
            raise TypeError(f"exception must be a subclass of asyncio.CancelledError, not {exception!r}")
        if self._closed:
            return InterruptResult.CLOSED
        if self._raised:
            return InterruptResult.RAISED
        # Set the exception before checking: a thread that opens the scope or leaves its shield looks for it afterwards.
        self._exception = exception
        if self._loop is None or self._shields:
            return InterruptResult.DEFERRED
        try:
            self._loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:  # the loop has been closed, and the task with it
            return InterruptResult.CLOSED
        if not self.is_in_its_thread():
            time.sleep(_PAUSE)
        return InterruptResult.RAISED

    @property
    def has_raised(self) -> bool:
        """Whether the exception has been raised."""
        return self._raised

    def shield(self) -> AnyShield:
        """Return a context manager inside which interrupts of this scope wait."""
        return Shield(self)

    def rearm(self) -> bool:
        """Allow the scope to be interrupted again after its exception has been raised; return whether it now can be."""
        with self._changing:
            if self._closed or not self._raised or self._due is not None:
                return False
            self._raised = False
            return True

    def revoke(self) -> bool:
        """Withdraw an exception that has not been raised yet, from any thread; return whether that was in time."""
        with self._changing:
            if self._raised or self._closed:
                return False
            self._exception = None
            return True

    def is_here(self) -> bool:
        """Return whether the caller is in this scope, in its task."""
        try:
            return self._task is not None and asyncio.current_task() is self._task and self.is_in_its_thread()
        except RuntimeError:  # in a thread without a loop
            return False

    def is_in_a_loop(self) -> bool:
        """Say whether the caller is in an event loop of the scope's library, which may be another than its own."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # in a thread that the function has started
            return False
        return True

    def is_in_its_thread(self) -> bool:
        """Return whether the caller is in the thread of the loop.

        Under gevent that is a greenlet. asyncio goes by the operating system's thread around all greenlets, and so
        tells each of them that the loop and its task are running there.
        """
        return self._thread_id == get_ident()

    def frames(self) -> list[FrameType]:
        """Return the frames of the function and of the awaitables it awaits, innermost last."""
        frames = []
        awaited: Any = self._coroutine
        while awaited is not None:
            frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
            if frame is not None:
                frames.append(frame)
            awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
        return frames

    def _take(self) -> type[BaseException] | None:
        """Return the exception that must be raised now, and mark it as raised; None if none is due."""
        with self._changing:
            if self._exception is None or self._closed or self._raised or self._shields or not self._claim():
                return None
            self._raised = True
            return self._exception

    def _claim(self) -> bool:
        """Return whether the exception may be raised here.

        This is called last. A scope inside another scope overrides it.
        """
        return True

    def _cancel(self) -> None:
        # In the loop, while the task is waiting; or in the task itself, whose next await then raises.
        if (exception := self._take()) is not None and self._task is not None:
            self._due = exception
            self._task.cancel()

    async def _absorb(self) -> type[BaseException] | None:
        """Receive a cancellation that the function has not awaited, and return the exception that it was for.

        A task that ends while it is being cancelled counts as cancelled all the same (Lib/asyncio/tasks.py,
        Task.__step).
        """
        self._closed = True
        if self._due is not None:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        return self._due

    @types.coroutine
    def _steps(self, coroutine: Coroutine[Any, Any, _R]) -> Generator[Any, Any, _R]:
        """Await the coroutine as ``await`` does, but replace the cancellation by the scope's own exception."""
        self._coroutine = coroutine
        sent = thrown = None
        try:
            while True:
                # Raise it even if a child that the function awaited has swallowed the cancellation.
                if self._due is not None and (thrown is None or isinstance(thrown, asyncio.CancelledError)):
                    thrown, self._due = self._due(), None
                try:
                    awaited = coroutine.send(sent) if thrown is None else coroutine.throw(thrown)
                except StopIteration as returned:
                    result: _R = returned.value
                    return result
                sent = thrown = None
                try:
                    sent = yield awaited
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - passed on to the function
                    thrown = error
        finally:
            del thrown  # avoids a cycle of the exception, its traceback and this frame


class Shield(ShieldInPython):
    """A context manager inside which interrupts of a scope wait."""

    __slots__ = ()

    _scope: Scope

    def __enter__(self) -> None:
        self._check_new()
        self._entered = True
        with self._scope._changing:
            self._scope._shields += 1

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        scope = self._scope
        self._entered = False
        with scope._changing:
            scope._shields -= 1
        if scope._exception is None:
            return
        if not scope.is_here():
            scope.interrupt(scope._exception)
        elif isinstance(exc, asyncio.CancelledError):
            # A timeout, for example, would take any CancelledError for its own: so this one has to be counted
            # (Task.uncancel).
            scope._cancel()
        elif (exception := scope._take()) is not None:
            raise exception
