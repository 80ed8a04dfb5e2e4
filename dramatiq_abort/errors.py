"""The exceptions.

::

    BaseException
    └── dramatiq.middleware.Interrupt
        └── Abort                 raised in the function of an actor
            └── AsyncAbort        (and asyncio.CancelledError) raised in a coroutine
    Exception
    ├── dramatiq.middleware.SkipMessage
    │   └── AbortedBeforeStart    a message was aborted before its start
    └── AbortError                base class of this package's other errors
        ├── ConfigurationError    (and RuntimeError, dramatiq's MiddlewareError) middleware or backend missing
        ├── InvalidOption         (and TypeError, dramatiq's MiddlewareError) an option of an actor or a message
        ├── BackendError          the event backend cannot be reached, or failed
        ├── UnsupportedByBackend  (and NotImplementedError) the event backend lacks an optional method
        └── InvalidRequest        (and ValueError) the event backend holds malformed bytes
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from dramatiq.errors import DramatiqError
from dramatiq.middleware import Interrupt, MiddlewareError, SkipMessage

from ._core.current import here
from ._core.dropped import was_dropped

if TYPE_CHECKING:
    import subprocess


__all__ = [
    "Abort",
    "AbortError",
    "AbortedBeforeStart",
    "AsyncAbort",
    "BackendError",
    "ConfigurationError",
    "InvalidOption",
    "InvalidRequest",
    "UnsupportedByBackend",
]


class Attributed(Protocol):
    """What is known of a request to abort: ``_protocol/request.py`` has the class."""

    @property
    def reason(self) -> str | None:
        """Why."""

    @property
    def by(self) -> str | None:
        """The requester."""

    @property
    def attribution(self) -> str:
        """Both, to be put behind a sentence."""


class Abort(Interrupt):
    """Raised in an actor's function when its message is aborted.

    Like dramatiq's other interrupts it is not an ``Exception``, so that ``except Exception`` does not swallow it. Catch
    it by name to clean up, then raise it again. A function that raises something else has been aborted all the same,
    and its message is not retried; one that returns has completed.
    """

    # No __init__: CPython creates the instance from the class, without arguments, and Python code that runs at that
    # moment would be a place where the next interrupt can be raised. Until write_down() stores them, message and
    # request are those of the current execution.
    _message_id: str | None = None
    _request: Attributed | None = None

    #: The name of the exception type that the function raised instead, if this exception has replaced it.
    failure: str | None = None

    #: The program that ``run_process()`` had started, if it was raised there: its exit status, and its output so far.
    process: subprocess.CompletedProcess[Any] | None = None

    def __del__(self) -> None:
        # Not in a coroutine, where asyncio catches the exception and drops it as it should.
        execution = None if isinstance(self, asyncio.CancelledError) else here()
        if execution is not None and was_dropped(self.__traceback__):
            execution.rearm()  # the scheduler then interrupts it again

    @property
    def message_id(self) -> str | None:
        """The id of the aborted message, or None outside of a message."""
        if self._message_id is not None:
            return self._message_id
        execution = here()
        return None if execution is None else execution.message_id

    @property
    def reason(self) -> str | None:
        """The ``reason`` of ``abort()``, or None."""
        request = self._abort_request()
        return None if request is None else request.reason

    @property
    def by(self) -> str | None:
        """The requester, which is the ``by`` of ``abort()``, or None."""
        request = self._abort_request()
        return None if request is None else request.by

    def write_down(self, message_id: str, request: Attributed | None) -> None:
        """Store message and request once: called when the exception leaves its scope, and again for outer scopes."""
        if self._message_id is None:
            self._message_id, self._request = message_id, request

    def __str__(self) -> str:
        if self.args or self.message_id is None:
            return super().__str__()
        request = self._abort_request()
        return f"message {self.message_id} was aborted{'' if request is None else request.attribution}"

    def _abort_request(self) -> Attributed | None:
        if self._message_id is not None:
            return self._request
        execution = here()
        return None if execution is None else execution.request


class AsyncAbort(Abort, asyncio.CancelledError):
    """Raised in a coroutine, where it awaits: an ``Abort`` that is also a cancellation.

    Both ``except Abort`` and ``except asyncio.CancelledError`` catch it, and asyncio treats it as any cancellation.
    Outside the coroutine, in results and hooks, it is a plain ``Abort``.
    """


class AbortedBeforeStart(SkipMessage):
    """Raised before a message starts if it has been aborted, so that dramatiq skips it.

    With ``Abortable(fail_skipped=True)`` it is also the result of the message.
    """


class AbortError(DramatiqError):
    """Base class of this package's own errors, except those that stop a message."""


class ConfigurationError(AbortError, MiddlewareError, RuntimeError):
    """The broker has no ``Abortable``, or two, or the ``Abortable`` has no event backend."""


class InvalidOption(AbortError, MiddlewareError, TypeError):
    """An option of an actor or a message is invalid. The actor is not declared, or the message is not sent."""


class BackendError(AbortError):
    """The event backend could not be reached, or failed. Its own error is the ``__cause__``.

    Whether the last request took effect is unknown, because the backend's answer may have been lost.
    """

    #: The number of messages aborted before the failure, in the order in which they were given.
    completed = 0


class UnsupportedByBackend(AbortError, NotImplementedError):
    """The event backend lacks an optional method that this call needs."""


class InvalidRequest(AbortError, ValueError):
    """The bytes read from the event backend are not a valid abort request, rule or outcome."""
