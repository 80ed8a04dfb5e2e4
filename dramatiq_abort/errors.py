"""The exceptions.

::

    BaseException
    └── dramatiq.middleware.Interrupt
        └── Abort                 raised in an actor that is aborted
            └── AsyncAbort        (and asyncio.CancelledError) the same in a coroutine
    Exception
    ├── dramatiq.middleware.SkipMessage
    │   └── AbortedBeforeStart    a message that was aborted while it waited
    └── AbortError                everything that abort() and its like raise
        ├── ConfigurationError    (and RuntimeError, dramatiq's MiddlewareError)
        ├── InvalidOption         (and TypeError, dramatiq's MiddlewareError) of an actor or a message
        ├── BackendError          the event backend did not take the request
        ├── UnsupportedByBackend  (and NotImplementedError)
        └── InvalidRequest        (and ValueError) what came from the backend is no request
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

    Not an ``Exception``, like dramatiq's other interrupts, so that ``except Exception`` does not swallow it. Catch it
    to clean up, then raise it again. Whatever the function raises instead, the message is not retried.
    """

    # Python code at the making of an instance would be a place where the next interrupt can come up; and CPython
    # makes the instance, from the class. So there is no __init__: what is known is looked up until it is written down.
    _message_id: str | None = None
    _request: Attributed | None = None

    #: The type of what the function raised instead, if this has taken its place.
    failure: str | None = None

    #: What became of the program that ``run()`` had started, if that is where it came up.
    process: subprocess.CompletedProcess[Any] | None = None

    def __del__(self) -> None:
        # Not for a coroutine: asyncio catches what cancels one, and that is as it should be.
        execution = None if isinstance(self, asyncio.CancelledError) else here()
        if execution is not None and was_dropped(self.__traceback__):
            execution.rearm()  # whoever has interrupted it asks again

    @property
    def message_id(self) -> str | None:
        """The message that was aborted, or None where no message is being processed."""
        if self._message_id is not None:
            return self._message_id
        execution = here()
        return None if execution is None else execution.message_id

    @property
    def reason(self) -> str | None:
        """Why, if ``abort()`` was told."""
        request = self._asked()
        return None if request is None else request.reason

    @property
    def by(self) -> str | None:
        """Who has asked, if ``abort()`` was told."""
        request = self._asked()
        return None if request is None else request.by

    def write_down(self, message_id: str, request: Attributed | None) -> None:
        """Keep what is so far looked up: called on the exception's way out of its scope, and out of those around it."""
        if self._message_id is None:
            self._message_id, self._request = message_id, request

    def __str__(self) -> str:
        if self.args or self.message_id is None:
            return super().__str__()
        request = self._asked()
        return f"message {self.message_id} was aborted{'' if request is None else request.attribution}"

    def _asked(self) -> Attributed | None:
        if self._message_id is not None:
            return self._request
        execution = here()
        return None if execution is None else execution.request


class AsyncAbort(Abort, asyncio.CancelledError):
    """Raised in a coroutine where it awaits: an ``Abort`` that is a cancellation, too.

    ``except Abort`` and ``except asyncio.CancelledError`` both catch it, and asyncio does about it what it does about
    any cancellation. Outside of the coroutine it is a plain ``Abort``.
    """


class AbortedBeforeStart(SkipMessage):
    """The message was aborted while it waited, so it is skipped."""


class AbortError(DramatiqError):
    """What all errors of this package's functions have in common."""


class ConfigurationError(AbortError, MiddlewareError, RuntimeError):
    """The middleware is missing, there are two of it, or it has no event backend."""


class InvalidOption(AbortError, MiddlewareError, TypeError):
    """An option of an actor or a message is none that it can have: the actor is not declared, the message not sent."""


class BackendError(AbortError):
    """The event backend could not be reached or did not answer; its own error is the cause.

    Of what it was asked for last, it is not known whether it was done: the answer may have been lost.
    """

    #: How many messages of many have been aborted before that, in the order in which they were given.
    completed = 0


class UnsupportedByBackend(AbortError, NotImplementedError):
    """The event backend has only the three methods that it must have, and more is needed here."""


class InvalidRequest(AbortError, ValueError):
    """The bytes that came from the event backend are no abort request."""
