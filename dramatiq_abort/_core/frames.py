"""The frames of a thread, as a scope returns them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["frames_from"]


def frames_from(innermost: FrameType | None) -> list[FrameType]:
    """Return this frame and all its callers, innermost last."""
    frames = []
    while innermost is not None:
        frames.append(innermost)
        innermost = innermost.f_back
    return frames[::-1]
