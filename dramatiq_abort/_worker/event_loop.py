"""Coroutines that a message's function runs on dramatiq's event loop.

For an async actor, dramatiq creates an ordinary function that runs the coroutine on the loop's thread and waits for it
(``dramatiq/asyncio.py``). Other functions may wrap that one, so the actor does not show that it is async. This module
therefore recognises the call of the loop, in the thread of a message and inside its scope. While the coroutine runs,
the message is interrupted in the coroutine, where it awaits, and not in the thread that waits for it.
"""

from __future__ import annotations

import functools
import inspect
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

from dramatiq.asyncio import EventLoopThread

from .._core.coroutines import Scope as CoroutineScope
from .._core.current import current, here
from ..errors import Abort, AsyncAbort

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .execution import Execution
    from .hooks_py import ThreadScope

__all__ = ["install"]

_run_coroutine = EventLoopThread.run_coroutine


def install() -> None:
    """Make dramatiq's event loops run each coroutine of a message in a scope."""
    EventLoopThread.run_coroutine = _run_in_a_message  # type: ignore[assignment, method-assign]


@functools.wraps(_run_coroutine)
def _run_in_a_message(thread: EventLoopThread, coro: Awaitable[Any]) -> Any:
    execution = cast("Execution | None", here())
    if execution is None or isinstance(execution.scope, CoroutineScope) or not execution.scope.is_here():
        return _run_coroutine(thread, coro)
    return _run_in_scope(thread, coro, execution, execution.scope)


def _run_in_scope(thread: EventLoopThread, coro: Awaitable[Any], execution: Execution, outer: ThreadScope) -> Any:
    """Run a coroutine in its own scope, inside the scope of its message."""
    scope = CoroutineScope()
    waiting = execution.runtime.new_scope()
    is_shielded = outer.is_shielded
    # Meanwhile, no abort of the message is raised in this thread; and none in the coroutine if the caller has a shield.
    with outer.shield(), scope.shield() if is_shielded else nullcontext():
        has_raised = execution.has_raised_elsewhere or not outer.revoke()
        execution.go_on_in(scope, waiting, has_raised=has_raised)
        try:
            result, aborted = waiting.run(_run_coroutine, (thread, _run(execution, scope, coro)))
        finally:
            outer.revoke()  # an interrupt may have arrived while the scopes changed
            execution.go_on_in(outer, None, has_raised=has_raised or scope.has_raised)
        try:
            if isinstance(aborted, AsyncAbort):
                raise Abort(*aborted.args) from aborted
            if aborted is not None:
                raise aborted
        finally:
            del aborted  # avoids a cycle of exception, traceback and this frame, which holds the task's objects
        return result


async def _run(execution: Execution, scope: CoroutineScope, coro: Awaitable[Any]) -> tuple[Any, Abort | None]:
    """Await a coroutine in its scope; return its result and the ``Abort`` that ended it.

    The ``Abort`` is returned because raising it would give the other thread a bare ``CancelledError``.
    """

    async def function() -> Any:
        return await coro

    current.set(execution)  # the coroutine's context may not have it
    try:
        return await scope.run(function), None
    except Abort as aborted:
        aborted.write_down(execution.message_id, execution.request)
        return None, aborted
    finally:
        if inspect.iscoroutine(coro):
            coro.close()  # for a coroutine that an earlier abort has kept from starting
