"""Coroutines that a message's function runs on dramatiq's event loop.

dramatiq makes an ordinary function of an async actor's, which runs the coroutine on the loop's thread and waits for it
(``dramatiq/asyncio.py``). That function can be hidden behind any others: so what is recognised is not the actor but the
call of the loop, in the thread of a message and inside of its scope. As long as the coroutine runs, the message is
interrupted there, where it awaits, and not in the thread that waits for it.
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

    from .execution import Execution, ThreadScope

__all__ = ["install"]

_run_coroutine = EventLoopThread.run_coroutine


def install() -> None:
    """Have all of dramatiq's event loops run coroutines in the scopes of messages."""
    EventLoopThread.run_coroutine = _run_in_a_message  # type: ignore[assignment, method-assign]


@functools.wraps(_run_coroutine)
def _run_in_a_message(thread: EventLoopThread, coro: Awaitable[Any]) -> Any:
    execution = cast("Execution | None", here())
    if execution is None or isinstance(execution.scope, CoroutineScope) or not execution.scope.is_here():
        return _run_coroutine(thread, coro)
    return _run_in_scope(thread, coro, execution, execution.scope)


def _run_in_scope(thread: EventLoopThread, coro: Awaitable[Any], execution: Execution, outer: ThreadScope) -> Any:
    """Run a coroutine in a scope of its own, inside of its message's."""
    scope = CoroutineScope()
    waiting = execution.runtime.new_scope()
    is_shielded = outer.is_shielded
    # Of the message's exceptions, none comes up in this thread meanwhile. Behind a shield of its own, none at all.
    with outer.shield(), scope.shield() if is_shielded else nullcontext():
        has_raised = execution.has_raised_elsewhere or not outer.revoke()
        execution.go_on_in(scope, waiting, has_raised=has_raised)
        try:
            result, aborted = waiting.run(_run_coroutine, (thread, _run(execution, scope, coro)))
        finally:
            outer.revoke()  # what came while the scopes changed
            execution.go_on_in(outer, None, has_raised=has_raised or scope.has_raised)
        try:
            if isinstance(aborted, AsyncAbort):
                raise Abort(*aborted.args) from aborted
            if aborted is not None:
                raise aborted
        finally:
            del aborted  # no cycle of the exception, its traceback and this frame, which holds what the task had
        return result


async def _run(execution: Execution, scope: CoroutineScope, coro: Awaitable[Any]) -> tuple[Any, Abort | None]:
    """Await it in its scope; what aborts it would be a bare CancelledError in any other thread."""

    async def function() -> Any:
        return await coro

    current.set(execution)  # the context of the call need not know of it
    try:
        return await scope.run(function), None
    except Abort as aborted:
        aborted.write_down(execution.message_id, execution.request)
        return None, aborted
    finally:
        if inspect.iscoroutine(coro):
            coro.close()  # it has not begun, if the abort was there before; or has ended
