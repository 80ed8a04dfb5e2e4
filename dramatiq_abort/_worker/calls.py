"""The calls of actors' functions: which of them are a message's own, and what comes out of them."""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING, Any

from dramatiq.errors import ActorNotFound

from .._core.current import current, in_this_thread
from ..errors import Abort
from . import hooks

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from dramatiq import Actor, Message

    from .execution import Execution

__all__ = ["expect_abort", "scoped"]


def scoped(fn: Callable[..., Any], actor: Actor[Any, Any], logger: logging.Logger) -> Callable[..., Any]:
    """Wrap an actor's function: a call for a message runs in that message's scope, any other is a plain call."""
    return hooks.ScopedCall(fn, actor.actor_name, current, _Calls(actor, logger))


class _Calls:
    """Tells a message's own calls of an actor's function from all others, and takes what comes out of them."""

    def __init__(self, actor: Actor[Any, Any], logger: logging.Logger) -> None:
        self._actor = actor
        self._logger = logger

    def message_of(self, function: Callable[..., Any], execution: Execution | None) -> Execution | None:
        """Return the message whose call this is; None: it is a plain call.

        One that is called again, as after a lost connection, has begun already.
        """
        if execution is None or execution.is_over:  # a context of its own, or one that another message has left behind
            execution = in_this_thread()
            if execution is None or execution.is_inside:
                return None
        elif execution.has_begun and execution.thread_id != threading.get_ident():  # a thread that the function started
            return None
        name = execution.proxy.actor_name  # which another middleware may have changed
        if name != self._actor.actor_name and not self._is_known_as(name, function):
            return None
        if execution.has_begun:
            execution.begin_again()
        return execution

    def _is_known_as(self, name: str, function: Callable[..., Any]) -> bool:
        """Say whether messages for an actor of that name call the function: an old name, say, that is kept alive."""
        try:
            actor = self._actor.broker.get_actor(name)
        except ActorNotFound:
            return False
        return actor is self._actor or inspect.unwrap(actor.fn, stop=lambda each: each is function) is function

    def failed(self, execution: Execution, error: BaseException) -> None:
        """Take what came out of a message's function instead of a result.

        Raises:
          Abort: In its place, whatever the function made of its abort: a message that was to be aborted is not tried
            again.
        """
        request = execution.request
        if request is not None or isinstance(error, Abort):
            expect_abort(execution.message)
        if isinstance(error, Abort):
            # That of a message around this one comes up in here, too.
            asked: Execution | None = execution
            while asked is not None and asked.request is None:
                asked = asked.outer
            aborted = asked or execution
            error.write_down(aborted.message_id, aborted.request)
        elif request is not None:
            what = "Message %s was being aborted and raised this."
            self._logger.warning(what, execution.message_id, exc_info=error, extra=execution.fields())
            was_aborted = f"message {execution.message_id} was aborted{request.attribution}"
            terminal = Abort(f"{was_aborted}, and then raised {type(error).__name__}")
            terminal.failure = type(error).__name__
            terminal.write_down(execution.message_id, request)
            try:
                raise terminal from error
            finally:
                del terminal  # no cycle of the exception, its traceback and this frame, which holds what the task had


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
