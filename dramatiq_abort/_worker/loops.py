"""Event loops that an ordinary actor's function runs on its worker thread, as with ``asyncio.run()``.

While a loop runs on a thread, nothing is raised in that thread. asyncio drops exceptions that are raised in a callback
or in a task that is not awaited, and an exception that does leave the loop leaves its tasks unfinished. Instead, the
coroutine that the loop was started for is cancelled in the loop, like that of an async actor: see
``_core/coroutines.py``.

The coroutine of an existing task cannot be replaced. The functions that start loops are therefore wrapped while a
worker runs. Outside the thread of a message, the wrappers only check whether there is a message.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from asyncio import _get_running_loop  # returns None where the public function raises
from contextlib import suppress
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from .._core.coroutines import Scope
from .._core.current import current
from ..errors import Abort

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from types import FrameType

    from .._core.result import InterruptResult
    from ..interrupt import Scope as ThreadScope
    from .execution import Execution

__all__ = ["LoopScope", "install", "message_here", "remove", "run_for"]

_R = TypeVar("_R")

#: Prefixes of the names of modules whose functions start loops.
_STARTERS: Final = ("asyncio.", "dramatiq_abort._worker.loops", "dramatiq_abort._worker.trio_loops", "trio.")

#: The coroutines with which loops and ``asyncio.run()`` clean up. They are not interrupted.
_CLEAN_UP: Final = frozenset({"shutdown_asyncgens", "shutdown_default_executor"})


class LoopScope(Scope):
    """The scope of the coroutine that a thread runs its loop for, inside the thread's own scope.

    It raises only what the thread's scope has not raised.

    Parameters:
      execution: The message whose function starts the loop.
    """

    __slots__ = ("_thread", "has_claimed")

    def __init__(self, execution: Execution) -> None:
        super().__init__()
        self._thread = cast("ThreadScope", execution.scope)
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

    def __init__(self, execution: Execution, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        super().__init__(execution)
        self._loop, self._thread_id, self._task = loop, get_ident(), future
        self._coroutine = cast("Any", future).get_coro() if isinstance(future, asyncio.Task) else None

    def _cancel(self) -> None:
        if self._task is not None and not self._task.done() and self._take() is not None:
            self._task.cancel()


class EndlessScope(LoopScope):
    """The scope of ``run_forever()``: the loop is stopped, and the exception is raised after it."""

    __slots__ = ()

    def __init__(self, execution: Execution, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(execution)
        self._loop, self._thread_id = loop, get_ident()

    def _cancel(self) -> None:
        if self._loop is not None and (exception := self._take()) is not None:
            self._due = exception
            self._loop.stop()


def message_here() -> Execution | None:
    """Return the message whose function is about to start a loop on the message's own thread, or None.

    None also if protected code starts the loop: what the loop runs is part of that code, and is not interrupted either.
    """
    execution = current.get()
    if (
        execution is None
        or execution.loop is not None
        or not execution.scope.is_here()
        or _get_running_loop() is not None
    ):
        return None
    return execution if cast("ThreadScope", execution.scope).may_be_cut(_starter()) else None


def _starter() -> FrameType:
    """Return the frame of the function that starts a loop, below those that are protected only because they run one."""
    frame = sys._getframe(1)  # noqa: SLF001 - the only way to identify the caller
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(_STARTERS):
        frame = frame.f_back
    return frame


def run_for(execution: Execution, scope: LoopScope, run: Callable[[], _R]) -> _R:
    """Run a loop for a message, and raise ``Abort`` after it if the scope's exception ended it or is still due."""
    result: Any = None
    error: BaseException | None = None
    execution.loop = scope
    try:
        execution.hand_on()
        try:
            result = run()
        except BaseException as raised:  # noqa: BLE001 - it is raised again below
            error = raised
        if scope.close() or scope.has_come_out(error):
            raise Abort(*(error.args if isinstance(error, asyncio.CancelledError) else ())) from error
        if error is not None:
            raise error
        return cast("_R", result)
    finally:
        execution.loop = None
        del error  # avoids a cycle of exception, traceback and this frame


def _run_coroutine(
    execution: Execution, coroutine: Coroutine[Any, Any, _R], run: Callable[[Coroutine[Any, Any, _R]], _R]
) -> _R:
    scope = LoopScope(execution)
    return run_for(execution, scope, lambda: run(_in_scope(execution, scope, coroutine)))


async def _in_scope(execution: Execution, scope: LoopScope, coroutine: Coroutine[Any, Any, _R]) -> _R:
    """Await a coroutine in its scope."""
    token = current.set(execution)  # a Runner runs coroutines in the context in which it was created
    try:
        return await scope.run(lambda: coroutine)
    finally:
        coroutine.close()  # it has not started if the exception was raised before
        with suppress(ValueError):  # the loop was stopped early, and the garbage collector runs this in another context
            current.reset(token)


async def _await(awaitable: Awaitable[_R]) -> _R:
    return await awaitable


def _run_in_runner(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def run(runner: Any, coro: Any, **options: Any) -> Any:
        execution = message_here()
        if execution is None or not asyncio.iscoroutine(coro):
            return original(runner, coro, **options)
        runner.get_loop()  # raises the errors that the original would raise, before the coroutine is passed on
        return _run_coroutine(execution, coro, lambda coroutine: original(runner, coroutine, **options))

    return run


def _run_until_complete(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def run_until_complete(loop: asyncio.AbstractEventLoop, future: Any) -> Any:
        execution = message_here()
        if execution is None or loop.is_closed() or not inspect.isawaitable(future):
            return original(loop, future)
        caller = sys._getframe(1).f_code.co_name  # noqa: SLF001 - the only way to identify the caller
        if caller == "_cancel_all_tasks" or getattr(future, "__name__", None) in _CLEAN_UP:
            closed = LoopScope(execution)
            closed.close()
            return run_for(execution, closed, lambda: original(loop, future))
        if asyncio.isfuture(future):
            return run_for(execution, FutureScope(execution, loop, future), lambda: original(loop, future))
        coroutine = future if asyncio.iscoroutine(future) else _await(future)
        return _run_coroutine(execution, coroutine, lambda coroutine: original(loop, coroutine))

    return run_until_complete


def _run_forever(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def run_forever(loop: asyncio.AbstractEventLoop) -> Any:
        execution = message_here()
        if execution is None or loop.is_closed():
            return original(loop)
        return run_for(execution, EndlessScope(execution, loop), lambda: original(loop))

    return run_forever


_Wrap: TypeAlias = "Callable[[Callable[..., Any]], Callable[..., Any]]"


def _entries() -> Iterator[tuple[Any, str, _Wrap]]:
    """Yield the functions that start loops: the class or module, the function's name, and its wrapper."""
    if "trio" in sys.modules:
        from .trio_loops import wrap_run

        yield sys.modules["trio"], "run", wrap_run
    if sys.version_info >= (3, 11):
        yield asyncio.Runner, "run", _run_in_runner
    loops: list[Any] = [asyncio.BaseEventLoop, asyncio.SelectorEventLoop]
    if "uvloop" in sys.modules:
        loops.append(sys.modules["uvloop"].Loop)
    for loop in loops:
        for name, wrap in (("run_until_complete", _run_until_complete), ("run_forever", _run_forever)):
            # An inherited method is wrapped in its base class, unless it is written in C. nest_asyncio gives classes
            # methods of their own.
            if not inspect.isfunction(getattr(loop, name)) or name in vars(loop):
                yield loop, name, wrap


_installing = Lock()
_workers = 0
_installed: list[tuple[Any, str, Any, Any]] = []


def install() -> None:
    """Wrap the functions that start loops, once for all workers of the process."""
    global _workers  # noqa: PLW0603
    with _installing:
        _workers += 1
        if _workers > 1:
            return
        for owner, name, wrap in _entries():
            before = vars(owner).get(name)
            wrapped = wrap(getattr(owner, name))
            setattr(owner, name, wrapped)
            _installed.append((owner, name, before, wrapped))


def remove() -> None:
    """Restore the functions when the last worker ends, except those that other code has wrapped since."""
    global _workers  # noqa: PLW0603
    with _installing:
        _workers -= 1
        if _workers:
            return
        for owner, name, before, wrapped in _installed:
            if vars(owner).get(name) is not wrapped:
                continue
            if before is None:  # it was inherited
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        _installed.clear()
