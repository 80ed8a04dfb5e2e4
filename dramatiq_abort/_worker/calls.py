"""Calls of an actor's function: which of them belong to a message, and the exceptions that they raise."""

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
    """Return an actor's function wrapped so that the call for a message runs in that message's scope.

    Any other call is a plain call.
    """
    return hooks.ScopedCall(fn, actor.actor_name, current, _Calls(actor, logger))


class _Calls:
    """Recognises a message's own calls of an actor's function, and handles the exceptions that they raise."""

    def __init__(self, actor: Actor[Any, Any], logger: logging.Logger) -> None:
        self._actor = actor
        self._logger = logger

    def message_of(self, function: Callable[..., Any], execution: Execution | None) -> Execution | None:
        """Return the execution to which this call belongs, or None for a plain call.

        If the function is called a second time for its message, as after a lost connection, the execution starts again.
        """
        if execution is None or execution.is_over:  # called in a new context, or in that of an earlier message
            execution = in_this_thread()
            if execution is None or execution.is_inside:
                return None
        elif execution.has_begun and execution.thread_id != threading.get_ident():  # in a thread of the function's own
            return None
        name = execution.proxy.actor_name  # another middleware may have changed it
        if name != self._actor.actor_name and not self._is_known_as(name, function):
            return None
        if execution.has_begun:
            execution.begin_again()
        return execution

    def _is_known_as(self, name: str, function: Callable[..., Any]) -> bool:
        """Return whether messages for an actor of that name call the function, as with an old name still in use."""
        try:
            actor = self._actor.broker.get_actor(name)
        except ActorNotFound:
            return False
        return actor is self._actor or inspect.unwrap(actor.fn, stop=lambda each: each is function) is function

    def failed(self, execution: Execution, error: BaseException) -> None:
        """Handle the exception that a message's function raised.

        Raises:
          Abort: In place of another exception, if the message had an abort request: it is then not retried, whatever
            the function turned the ``Abort`` into.
        """
        request = execution.request
        if request is not None or isinstance(error, Abort):
            expect_abort(execution.message)
        if isinstance(error, Abort):
            # The Abort of an outer message is raised in here, too.
            requested: Execution | None = execution
            while requested is not None and requested.request is None:
                requested = requested.outer
            aborted = requested or execution
            error.write_down(aborted.message_id, aborted.request)
        elif request is not None:
            self._logger.warning(
                "Message %s of actor %s raised an exception while it was being aborted.",
                execution.message_id,
                execution.actor_name,
                exc_info=error,
                extra=execution.fields(),
            )
            was_aborted = f"message {execution.message_id} was aborted{request.attribution}"
            terminal = Abort(f"{was_aborted}, and then raised {type(error).__name__}")
            terminal.failure = type(error).__name__
            terminal.write_down(execution.message_id, request)
            try:
                raise terminal from error
            finally:
                del terminal  # avoids a cycle of exception, traceback and this frame, which holds the task's objects


class _ExpectingAbort(dict[str, Any]):
    """The options of a message that fails with an Abort."""

    # Only get(), which dramatiq calls, returns something else. The class is not an item of the dictionary, so that the
    # message can still be copied and encoded as JSON.

    def get(self, key: str, default: Any = None) -> Any:
        return Abort if key == "throws" else super().get(key, default)

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return dict, (dict(self),)


def expect_abort(message: Message[Any]) -> None:
    """Make ``Abort`` an expected exception of a message that fails with it, as the option ``throws`` does.

    ``Retries`` then does not retry it, and the worker logs one line (dramatiq/middleware/retries.py,
    dramatiq/worker.py). The actor's option cannot be used for this: other middleware may set it at any time,
    and a message's own option overrides it.
    """
    # The message is frozen. dramatiq itself sets attributes in this way (dramatiq/message.py).
    object.__setattr__(message, "options", _ExpectingAbort(message.options))
