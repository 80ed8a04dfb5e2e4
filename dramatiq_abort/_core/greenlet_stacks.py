"""The frames that an exception passes when it leaves a greenlet of a task's thread.

A function may switch to another greenlet of its thread, whose stack does not lead to the scope. An exception that
leaves this greenlet is raised in its parent, at the ``switch()`` there (greenlet's ``docs/greenlet.rst``). So an
exception for the scope may be raised in any greenlet whose parents lead to the scope. Only the thread itself can see
them.

A hub stops the exception: gevent and eventlet log what their greenlets raise, and go on.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["HUBS", "frames_of_parents", "is_hub"]

#: Modules whose greenlets swallow the exceptions of the greenlets that they have started.
HUBS: Final = frozenset({"eventlet.hubs.hub", "gevent.hub"})


def is_hub(frame: FrameType) -> bool:
    """Return whether a frame belongs to such a greenlet."""
    return frame.f_globals.get("__name__") in HUBS


def frames_of_parents() -> list[FrameType | None]:
    """Return the innermost frame of each parent of the current greenlet, the nearest parent first."""
    frames = []
    greenlets = sys.modules.get("greenlet")  # most programs have none
    if greenlets is not None:
        greenlet = greenlets.getcurrent().parent
        while greenlet is not None:
            frames.append(greenlet.gr_frame)
            greenlet = greenlet.parent
    return frames
