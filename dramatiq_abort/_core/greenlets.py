"""The same scope for a greenlet of gevent.

A greenlet runs until it waits for something, so its scope cannot close between a look and what follows from it, as
long as nothing in between waits. The exception is thrown by the hub, and only if the scope is open at that moment:
``greenlet.kill`` would throw whatever the greenlet has gone on to do by then (``gevent/greenlet.py``). A greenlet that
never waits cannot be interrupted.

Nor is one where protected code waits (``_core/safe_points.py``): in an ``__exit__`` that sends something, say, or in
``Condition.wait`` when it takes its lock again, whose ``with`` block would then release what is somebody else's. The
innermost frames can be gevent's own: they are how a greenlet waits, and they clean up after themselves. The hub looks
again and again, then, until the greenlet waits elsewhere.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar

import gevent
from gevent import getcurrent

from .bytecode import CACHE
from .frames import frames_from
from .result import InterruptResult
from .safe_points import WAITS, is_handed_over, may_be_cut
from .shield import AnyShield

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["Scope"]

_R = TypeVar("_R")

#: After how long to look again whether a greenlet has left protected code, in seconds, at first and at the most.
_LOOK_AGAIN: Final = 0.001
_LONGEST_PAUSE: Final = 0.02


class Scope:
    """The stretch of one call in which an exception may be raised from another greenlet: see ``interrupt.Scope``."""

    __slots__ = ("_closed", "_exception", "_greenlet", "_hub", "_is_watched", "_pause", "_raised", "_shields", "_timer")

    def __init__(self) -> None:
        self._greenlet: Any = None
        self._hub: Any = None
        self._exception: type[BaseException] | None = None
        self._closed = False
        self._raised = False
        self._shields = 0
        #: Whether the hub is about to look at the greenlet.
        self._is_watched = False
        self._timer: Any = None
        self._pause = _LOOK_AGAIN

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

    def interrupt(self, exception: type[BaseException]) -> InterruptResult:
        """Raise ``exception`` in the scope where its greenlet waits next, and answer what happened."""
        if not isinstance(exception, type) or not issubclass(exception, BaseException):
            raise TypeError(f"an exception class is needed to interrupt a scope, not {exception!r}")
        if self._closed:
            return InterruptResult.CLOSED
        if self._raised:
            return InterruptResult.RAISED
        self._exception = exception
        if self._greenlet is None or self._shields:
            return InterruptResult.DEFERRED
        if not self._is_watched:
            self._is_watched = True
            self._hub.loop.run_callback_threadsafe(self._throw)
        return InterruptResult.RAISED if self._is_at_safe_point() else InterruptResult.ARMED

    def shield(self) -> AnyShield:
        """Return a context manager inside of which interrupts of this scope wait."""
        return Shield(self)

    def rearm(self) -> bool:
        """Let the exception be raised once more, after it has come up, and say whether it may be."""
        if self._closed or not self._raised:
            return False
        self._raised = False
        return True

    def revoke(self) -> bool:
        """Take back what has not been raised yet, from any thread, and say whether nothing has been."""
        if self._raised or self._closed:
            return False
        self._exception = None
        return True

    @property
    def is_shielded(self) -> bool:
        """Whether it is behind a shield of this scope."""
        return self._shields > 0

    def is_here(self) -> bool:
        """Say whether the caller is in this scope, in its greenlet."""
        return self._greenlet is getcurrent()

    def frames(self) -> list[FrameType]:
        """Return the frames of the scope's greenlet, innermost last; none when it is not open, or here."""
        return frames_from(getattr(self._greenlet, "gr_frame", None))

    def _throw(self) -> None:
        # In the hub, so that the scope's greenlet is waiting for something.
        self._is_watched = False
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        if not self._is_due():
            return
        if self._is_at_safe_point():
            self._raised = True
            self._greenlet.throw(self._exception)
            return
        self._is_watched = True
        self._timer = self._hub.loop.timer(self._pause, ref=False)
        self._timer.start(self._throw)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _raise_what_waits(self) -> None:
        if self._exception is not None and self._is_due():
            self._raised = True
            raise self._exception

    def _is_due(self) -> bool:
        return self._exception is not None and not (self._closed or self._raised or self._shields)

    def _is_at_safe_point(self) -> bool:
        """Say whether nothing that the greenlet is doing, up to this scope's own frame, must be left alone."""
        greenlet = self._greenlet
        if greenlet is None:
            return True
        # Where the greenlet is the caller, or runs in another thread, it has no frame: the hub looks once more.
        frame: FrameType | None = sys._getframe(2) if greenlet is getcurrent() else greenlet.gr_frame
        while frame is not None and _module(frame).partition(".")[0] == "gevent":
            frame = frame.f_back
        frames = []
        above = frame
        while above is not None and above.f_code is not Scope.run.__code__:
            frames.append(above)
            above = above.f_back
        if frame is not None and _called_from(frame) in WAITS.get(frame.f_code, ()):
            return not is_handed_over(frames)
        return may_be_cut(frames)


class Shield(AnyShield):
    """Inside of it, interrupts of a scope wait."""

    __slots__ = ("_entered", "_scope")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._entered = False

    def __enter__(self) -> None:
        if self._entered:
            raise RuntimeError("this shield has been entered: call shield() for each with statement")
        scope = self._scope
        if scope.is_here():
            if scope._is_due() and scope._is_at_safe_point():
                scope._raise_what_waits()
            scope._shields += 1
            self._entered = True

    def __exit__(self, *_: object) -> None:
        if not self._entered:
            return
        self._entered = False
        scope = self._scope
        scope._shields -= 1
        if scope.is_here() and scope._is_at_safe_point():
            scope._raise_what_waits()
        elif scope._exception is not None:
            scope.interrupt(scope._exception)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _called_from(frame: FrameType) -> int:
    """The offset of the call that a frame stands in, which it may stand behind (see CACHE)."""
    code, offset = frame.f_code.co_code, frame.f_lasti
    while offset > 0 and code[offset] == CACHE:
        offset -= 2
    return offset
