"""The same scope for a greenlet of gevent.

A greenlet runs until it waits for something, so its scope cannot close between a look and what follows from it, as
long as nothing in between waits. The exception is thrown by the hub, and only if the scope is open at that moment:
``greenlet.kill`` would throw whatever the greenlet has gone on to do by then (``gevent/greenlet.py``). A greenlet that
never waits cannot be interrupted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import gevent
from gevent import getcurrent

from ._answer import Answer
from ._frames import frames_from
from ._shield import AnyShield

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["Scope"]

_R = TypeVar("_R")


class Scope:
    """The stretch of one call in which an exception may be raised from another greenlet: see ``interrupt.Scope``."""

    __slots__ = ("_closed", "_exception", "_greenlet", "_hub", "_raised", "_shields")

    def __init__(self) -> None:
        self._greenlet: Any = None
        self._hub: Any = None
        self._exception: type[BaseException] | None = None
        self._closed = False
        self._raised = False
        self._shields = 0

    def run(
        self,
        function: Callable[..., _R],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> _R:
        """Call ``function(*args, **kwargs)`` in this scope, and return what it returns."""
        if self._closed or self._greenlet is not None:
            raise RuntimeError("a scope runs one call: make a new Scope for each")
        self._greenlet, self._hub = getcurrent(), gevent.get_hub()
        try:
            self._raise_what_waits()
            return function(*args, **(kwargs or {}))
        finally:
            self._closed = True
            self._greenlet = None

    def interrupt(self, exception: type[BaseException]) -> Answer:
        """Raise ``exception`` in the scope where its greenlet waits next, and answer what happened."""
        if not isinstance(exception, type) or not issubclass(exception, BaseException):
            raise TypeError(f"an exception class is needed to interrupt a scope, not {exception!r}")
        if self._closed:
            return Answer.CLOSED
        if self._raised:
            return Answer.RAISED
        self._exception = exception
        if self._greenlet is None or self._shields:
            return Answer.WAITING
        self._hub.loop.run_callback_threadsafe(self._throw)
        return Answer.RAISED

    def shield(self) -> AnyShield:
        """Return a context manager inside of which interrupts of this scope wait."""
        return Shield(self)

    def rearm(self) -> bool:
        """Let the exception be raised once more, after it has come up, and say whether it may be."""
        if self._closed or not self._raised:
            return False
        self._raised = False
        return True

    def withdraw(self) -> bool:
        """Take back what has not been raised yet, from any thread, and say whether nothing has been."""
        if self._raised or self._closed:
            return False
        self._exception = None
        return True

    def is_here(self) -> bool:
        """Say whether the caller is in this scope, in its greenlet."""
        return self._greenlet is getcurrent()

    def frames(self) -> list[FrameType]:
        """Return the frames of the scope's greenlet, innermost last; none when it is not open, or here."""
        return frames_from(getattr(self._greenlet, "gr_frame", None))

    def _throw(self) -> None:
        # In the hub, so that the scope's greenlet is waiting for something.
        if self._exception is not None and not (self._closed or self._raised or self._shields):
            self._raised = True
            self._greenlet.throw(self._exception)

    def _raise_what_waits(self) -> None:
        if self._exception is not None and not (self._closed or self._raised or self._shields):
            self._raised = True
            raise self._exception


class Shield(AnyShield):
    """Inside of it, interrupts of a scope wait."""

    __slots__ = ("_entered", "_scope")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._entered = False

    def __enter__(self) -> None:
        if self._entered:
            raise RuntimeError("this shield has been entered: call shield() for each with statement")
        if self._scope.is_here():
            self._scope._raise_what_waits()
            self._scope._shields += 1
            self._entered = True

    def __exit__(self, *_: object) -> None:
        if not self._entered:
            return
        self._entered = False
        scope = self._scope
        scope._shields -= 1
        if scope.is_here():
            scope._raise_what_waits()
        elif scope._exception is not None:
            scope.interrupt(scope._exception)
