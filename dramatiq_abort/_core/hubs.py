"""Aborts for a task of an ordinary worker thread that waits in a gevent hub of its own.

The hub is a greenlet of the thread, and runs while the task's own greenlet waits for others, in ``pool.join()``, say.
gevent would log and forget an exception that is raised in the hub, or in a greenlet that the hub runs. So the hub is
told to throw the exception into the task's greenlet, as ``_core/greenlets.py`` does where all worker threads are
greenlets.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["throw_from_hub"]


class HubScope(Protocol):
    """The scope of an ordinary worker thread."""

    def frames(self) -> list[FrameType]:
        """Return the frames of the scope's thread, innermost last."""

    def claim(self, frame: FrameType | None = None, /) -> bool:
        """Mark the exception as raised by the caller, and return whether it is to be raised."""


def throw_from_hub(scope: HubScope, exception: type[BaseException]) -> None:
    """If the scope's thread is in a hub, tell the hub to raise the exception where the task waits for it.

    Does nothing if the task waits in protected code, or when the hub is not what the thread is running. Call this again
    in these cases.
    """
    hub = _hub_of(scope.frames())
    if hub is not None:
        hub.loop.run_callback_threadsafe(_throw, hub.parent, scope, exception)


def _hub_of(frames: list[FrameType]) -> Any:
    """Return the hub in which a thread's outermost frame runs, or None."""
    module = sys.modules.get("gevent.hub")  # most programs have none
    if module is None or not frames or frames[0].f_code is not module.Hub.run.__code__:
        return None
    return frames[0].f_locals["self"]


def _throw(greenlet: Any, scope: HubScope, exception: type[BaseException]) -> None:
    # This runs in the hub, so the greenlet is waiting, in gevent's functions, which clean up after themselves.
    frame = greenlet.gr_frame
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "gevent":
        frame = frame.f_back
    if frame is not None and scope.claim(frame):
        greenlet.throw(exception)
