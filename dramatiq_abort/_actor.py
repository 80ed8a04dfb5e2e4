"""What is done to an actor so that its messages can be aborted."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from dramatiq.asyncio import async_to_sync

from ._current import current
from .errors import Abort, AsyncAbort

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from ._running import Running, ThreadScope

__all__ = ["in_scope", "is_async", "with_abort"]


async def _run(
    running: Running, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Abort | None]:
    """Run a coroutine function in its scope; what aborts it would be a bare CancelledError in any other thread."""
    try:
        return await running.scope.run(fn, args, kwargs), None
    except Abort as aborted:
        aborted.write_down(running.message_id, running.request)
        return None, aborted


#: Runs it on dramatiq's event loop, as dramatiq does.
_run_in_loop = async_to_sync(_run)


def is_async(fn: Callable[..., Any]) -> bool:
    """Say whether this is what dramatiq makes of a coroutine function (dramatiq/actor.py)."""
    return getattr(fn, "__code__", None) is _run_in_loop.__code__


def in_scope(fn: Callable[..., Any], actor_name: str, logger: logging.Logger) -> Callable[..., Any]:
    """Wrap an actor's function: a call for a message runs in that message's scope, any other is a plain call."""
    awaited = fn.__wrapped__ if is_async(fn) else None  # type: ignore[attr-defined]

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        running = current.get()
        # Only the first call is the message's own, and only its actor's: those that the function itself makes, of
        # whichever actor, are plain calls inside of its scope.
        if running is None or running.has_begun or running.actor_name != actor_name:
            return fn(*args, **kwargs)
        running.has_begun = True
        try:
            if awaited is not None and running.waiting is not None:
                return _wait_for(running, running.waiting, awaited, args, kwargs)
            return running.scope.run(fn, args, kwargs)
        except Abort as aborted:
            aborted.write_down(running.message_id, running.request)
            raise
        except BaseException as error:
            if (request := running.request) is None:
                raise
            # Whatever the function made of it: a message that was to be aborted is not tried again.
            what = "Message %s was being aborted and raised this."
            logger.warning(what, running.message_id, exc_info=True, extra=running.fields())
            was_aborted = f"message {running.message_id} was aborted{request.says}"
            terminal = Abort(f"{was_aborted}, and then raised {type(error).__name__}")
            terminal.failure = type(error).__name__
            terminal.write_down(running.message_id, request)
            try:
                raise terminal from error
            finally:
                del terminal  # no cycle of the exception, its traceback and this frame, which holds what the task had

    return call


def _wait_for(
    running: Running, waiting: ThreadScope, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    result, aborted = waiting.run(_run_in_loop, (running, fn, args, kwargs))
    try:
        if isinstance(aborted, AsyncAbort):
            raise Abort(*aborted.args) from aborted
        if aborted is not None:
            raise aborted
    finally:
        del aborted  # the same
    return result


def with_abort(throws: Any) -> tuple[Any, ...]:
    """Add Abort to an actor's or a message's ``throws``, which is an exception class or a tuple of them.

    So Retries and the worker take it for an expected end (dramatiq/middleware/retries.py, dramatiq/worker.py).
    """
    return (*(throws if isinstance(throws, tuple) else (throws,)), Abort)
