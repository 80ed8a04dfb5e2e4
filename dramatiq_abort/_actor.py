"""What is done to an actor so that its messages can be aborted."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ._current import current
from .errors import Abort

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

__all__ = ["in_scope", "with_abort"]


def in_scope(fn: Callable[..., Any], actor_name: str, logger: logging.Logger) -> Callable[..., Any]:
    """Wrap an actor's function: a call for a message runs in that message's scope, any other is a plain call."""

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        running = current.get()
        if running is None or not running.begins(actor_name):
            return fn(*args, **kwargs)
        try:
            return running.scope.run(fn, args, kwargs)
        except Abort as aborted:
            aborted.write_down(running.message_id)
            raise
        except BaseException as error:
            if running.request is None:
                raise
            # Whatever the function made of it: a message that was to be aborted is not tried again.
            logger.warning("Message %s was being aborted and raised this.", running.message_id, exc_info=True)
            terminal = Abort(f"message {running.message_id} was aborted, and then raised {type(error).__name__}")
            terminal.write_down(running.message_id)
            raise terminal from error

    return call


def with_abort(throws: Any) -> tuple[Any, ...]:
    """Add Abort to an actor's or a message's ``throws``, which is an exception class or a tuple of them.

    So Retries and the worker take it for an expected end (dramatiq/middleware/retries.py, dramatiq/worker.py).
    """
    return (*(throws if isinstance(throws, tuple) else (throws,)), Abort)
