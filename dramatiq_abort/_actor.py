"""What is done to an actor so that its messages can be aborted."""

from __future__ import annotations

import functools
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from dramatiq.asyncio import async_to_sync

from ._current import current
from .errors import Abort, AsyncAbort

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from dramatiq import Message

    from ._running import Running, ThreadScope

__all__ = ["expect_abort", "in_scope", "is_async", "made_of", "until_needed"]


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
    from . import _passage  # not where no message runs

    run = partial(_wait_for, fn.__wrapped__) if is_async(fn) else None  # type: ignore[attr-defined]
    return _passage.InScope(fn, actor_name, current, run, partial(_failed, logger))


def until_needed(fn: Callable[..., Any], make: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    """Return what stands for an actor's function in its scope until a message needs that: see ``made_of``.

    So that a process that declares actors, but only enqueues or aborts their messages, imports no core.
    """
    made = functools.cache(make)

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs) if current.get() is None else made()(*args, **kwargs)

    vars(call)["made"] = made
    return call


def made_of(fn: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return the function in its scope for a stub of ``until_needed``; None for anything else, such as a wrapper."""
    return fn.made() if getattr(fn, "__code__", None) is _code_of_stubs else None  # type: ignore[attr-defined]


_code_of_stubs: Final = until_needed(int, lambda: int).__code__


def _failed(logger: logging.Logger, running: Running, error: BaseException) -> None:
    """Take what came out of a message's function instead of a result.

    Raises:
      Abort: In its place, whatever the function made of its abort: a message that was to be aborted is not tried again.
    """
    request = running.request
    if request is not None or isinstance(error, Abort):
        expect_abort(running.message)
    if isinstance(error, Abort):
        error.write_down(running.message_id, request)
    elif request is not None:
        what = "Message %s was being aborted and raised this."
        logger.warning(what, running.message_id, exc_info=error, extra=running.fields())
        was_aborted = f"message {running.message_id} was aborted{request.says}"
        terminal = Abort(f"{was_aborted}, and then raised {type(error).__name__}")
        terminal.failure = type(error).__name__
        terminal.write_down(running.message_id, request)
        try:
            raise terminal from error
        finally:
            del terminal  # no cycle of the exception, its traceback and this frame, which holds what the task had


def _wait_for(fn: Callable[..., Any], running: Running, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a coroutine function for a message, in which this thread waits, in a scope of its own."""
    waiting = cast("ThreadScope", running.waiting)  # which each message of an async actor has
    result, aborted = waiting.run(_run_in_loop, (running, fn, args, kwargs))
    try:
        if isinstance(aborted, AsyncAbort):
            raise Abort(*aborted.args) from aborted
        if aborted is not None:
            raise aborted
    finally:
        del aborted  # the same
    return result


class _ExpectingAbort(dict[str, Any]):
    """The options of a message that fails with an Abort."""

    # Only get() answers differently, which is what dramatiq calls. The class is not an item of the dictionary, so the
    # message can still be copied, and encoded as JSON.

    def get(self, key: str, default: Any = None) -> Any:
        return Abort if key == "throws" else super().get(key, default)

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return dict, (dict(self),)


def expect_abort(message: Message[Any]) -> None:
    """Add Abort to what a message ``throws``, now that it fails with one.

    So Retries and the worker take it for an expected end (dramatiq/middleware/retries.py, dramatiq/worker.py). Not an
    option of the actor: other middleware may set that one at any time, and a message's own goes before it.
    """
    # The message is frozen, which dramatiq itself gets around in the same way (dramatiq/message.py).
    object.__setattr__(message, "options", _ExpectingAbort(message.options))
