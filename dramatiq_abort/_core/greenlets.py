"""The scope of a greenlet: the same interface as ``interrupt.Scope``, for gevent.

A greenlet runs until it waits for something, so its scope cannot close between a check and the action that relies on
it, as long as nothing in between waits. The hub throws the exception, and only if the scope is open at that moment:
``greenlet.kill`` would throw it into whatever the greenlet is running by then (``gevent/greenlet.py``). A greenlet that
never waits cannot be interrupted.

Nor can a greenlet be interrupted while protected code waits (``_core/safe_points.py``): in an ``__exit__`` that sends
something, say, or in ``Condition.wait`` when it takes its lock again, whose ``with`` block would then release a lock
that another greenlet holds. The innermost frames may be gevent's own: a greenlet waits in these, and they clean up
after themselves. The hub then inspects the greenlet again and again, until it waits elsewhere.
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
from .shield import AnyShield, ShieldInPython

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["Scope"]

_R = TypeVar("_R")

#: How long the hub waits before it inspects a greenlet in protected code again, in seconds: at first, and at most.
_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.02


class Scope:
    """The part of a greenlet's execution in which another greenlet may raise an exception: one call of a function.

    See ``interrupt.Scope``.
    """

    __slots__ = ("_closed", "_exception", "_greenlet", "_hub", "_is_watched", "_pause", "_raised", "_shields", "_timer")

    def __init__(self) -> None:
        self._greenlet: Any = None
        self._hub: Any = None
        self._exception: type[BaseException] | None = None
        self._closed = False
        self._raised = False
        self._shields = 0
        #: Whether the hub is going to inspect the greenlet.
        self._is_watched = False
        self._timer: Any = None
        self._pause = _FIRST_PAUSE

    def run(
        self,
        function: Callable[..., _R],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> _R:
        """Call ``function(*args, **kwargs)`` in this scope, and return what it returns."""
        if self._closed or self._greenlet is not None:
            raise RuntimeError("this scope has been run before: make a new Scope for each call")
        self._greenlet, self._hub = getcurrent(), gevent.get_hub()
        try:
            self._raise_if_due()
            return function(*args, **(kwargs or {}))
        finally:
            self._closed = True
            self._greenlet = None

    def interrupt(self, exception: type[BaseException]) -> InterruptResult:
        """Raise ``exception`` in the scope where its greenlet waits next, and return what became of it."""
        if not isinstance(exception, type) or not issubclass(exception, BaseException):
            raise TypeError(f"exception must be an exception class, not {exception!r}")
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
        """Return a context manager inside which interrupts of this scope wait."""
        return Shield(self)

    def rearm(self) -> bool:
        """Allow the scope to be interrupted again after its exception has been raised; return whether it now can be."""
        if self._closed or not self._raised:
            return False
        self._raised = False
        return True

    def revoke(self) -> bool:
        """Withdraw an exception that has not been raised yet, from any thread; return whether that was in time."""
        if self._raised or self._closed:
            return False
        self._exception = None
        return True

    @property
    def is_shielded(self) -> bool:
        """Whether the scope is inside one of its shields."""
        return self._shields > 0

    def is_here(self) -> bool:
        """Return whether the caller is in this scope, in its greenlet."""
        return self._greenlet is getcurrent()

    def frames(self) -> list[FrameType]:
        """Return the frames of the scope's greenlet, innermost last.

        An empty list while the scope is not open, and in the greenlet itself.
        """
        return frames_from(getattr(self._greenlet, "gr_frame", None))

    def _throw(self) -> None:
        # This runs in the hub, so the scope's greenlet is waiting.
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

    def _raise_if_due(self) -> None:
        if self._exception is not None and self._is_due():
            self._raised = True
            raise self._exception

    def _is_due(self) -> bool:
        return self._exception is not None and not (self._closed or self._raised or self._shields)

    def _is_at_safe_point(self) -> bool:
        """Return whether the greenlet is at a safe point, judged by all its frames up to the scope's own."""
        greenlet = self._greenlet
        if greenlet is None:
            return True
        # gr_frame is None for the calling greenlet, and for one in another thread: the hub then inspects it once more.
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


class Shield(ShieldInPython):
    """A context manager inside which interrupts of a scope wait."""

    __slots__ = ()

    _scope: Scope

    def __enter__(self) -> None:
        self._check_new()
        scope = self._scope
        if scope.is_here():
            if scope._is_due() and scope._is_at_safe_point():
                scope._raise_if_due()
            scope._shields += 1
            self._entered = True

    def __exit__(self, *_: object) -> None:
        if not self._entered:
            return
        self._entered = False
        scope = self._scope
        scope._shields -= 1
        if scope.is_here() and scope._is_at_safe_point():
            scope._raise_if_due()
        elif scope._exception is not None:
            scope.interrupt(scope._exception)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _called_from(frame: FrameType) -> int:
    """Return the offset of the call that a frame is in; the frame itself may stand at the call's cache (see CACHE)."""
    code, offset = frame.f_code.co_code, frame.f_lasti
    while offset > 0 and code[offset] == CACHE:
        offset -= 2
    return offset
