"""The frames of a thread, as its scope gives them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["frames_from"]


def frames_from(innermost: FrameType | None) -> list[FrameType]:
    """Return this frame and all that have led to it, innermost last."""
    frames = []
    while innermost is not None:
        frames.append(innermost)
        innermost = innermost.f_back
    return frames[::-1]
