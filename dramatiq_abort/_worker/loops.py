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
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from .._core.current import current
from ..errors import Abort
from .loop_scopes import EndlessScope, FutureScope, LoopScope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from types import FrameType

    from ..interrupt import Scope as ThreadScope
    from .execution import Execution

__all__ = ["message_here", "run_for", "wrap_run_forever", "wrap_run_in_runner", "wrap_run_until_complete"]

_R = TypeVar("_R")

#: Prefixes of the names of modules whose functions start loops.
_STARTERS: Final = ("asyncio.", "dramatiq_abort._worker.loops", "dramatiq_abort._worker.trio_loops", "trio.")

#: The coroutines with which loops and ``asyncio.run()`` clean up. They are not interrupted.
_CLEAN_UP: Final = frozenset({"shutdown_asyncgens", "shutdown_default_executor"})


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
    scope = LoopScope(execution.scope)
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


def wrap_run_in_runner(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``asyncio.Runner.run``."""

    @functools.wraps(original)
    def run(runner: Any, coro: Any, **options: Any) -> Any:
        execution = message_here()
        if execution is None or not asyncio.iscoroutine(coro):
            return original(runner, coro, **options)
        runner.get_loop()  # raises the errors that the original would raise, before the coroutine is passed on
        return _run_coroutine(execution, coro, lambda coroutine: original(runner, coroutine, **options))

    return run


def wrap_run_until_complete(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a loop's ``run_until_complete``."""

    @functools.wraps(original)
    def run_until_complete(loop: asyncio.AbstractEventLoop, future: Any) -> Any:
        execution = message_here()
        if execution is None or loop.is_closed() or not inspect.isawaitable(future):
            return original(loop, future)
        caller = sys._getframe(1).f_code.co_name  # noqa: SLF001 - the only way to identify the caller
        if caller == "_cancel_all_tasks" or getattr(future, "__name__", None) in _CLEAN_UP:
            closed = LoopScope(execution.scope)
            closed.close()
            return run_for(execution, closed, lambda: original(loop, future))
        if asyncio.isfuture(future):
            return run_for(execution, FutureScope(execution.scope, loop, future), lambda: original(loop, future))
        coroutine = future if asyncio.iscoroutine(future) else _await(future)
        return _run_coroutine(execution, coroutine, lambda coroutine: original(loop, coroutine))

    return run_until_complete


def wrap_run_forever(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a loop's ``run_forever``."""

    @functools.wraps(original)
    def run_forever(loop: asyncio.AbstractEventLoop) -> Any:
        execution = message_here()
        if execution is None or loop.is_closed():
            return original(loop)
        return run_for(execution, EndlessScope(execution.scope, loop), lambda: original(loop))

    return run_forever
