"""Interrupts a function at each place where an abort may be raised, in turn: what a storm finds by chance."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

from dramatiq_abort._core.bytecode import delivers
from dramatiq_abort._core.safe_points import may_be_cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

__all__ = ["Cut", "cuts_of"]

_GENERATORS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class Cut(BaseException):
    """The exception to raise, like ``Abort``."""


class _Knife:
    """A profile function that raises at one of the places where the compiled core's profile function would."""

    def __init__(self, base: FrameType, at: int) -> None:
        self._base = base
        self._left = at
        self.place = ""

    def __call__(self, frame: FrameType, event: str, result: object) -> None:
        if event == "return":
            # A function that raises also returns None, so places after functions that return None are skipped.
            if result is None or frame.f_code.co_flags & _GENERATORS:
                return
            at = frame.f_back
        elif event in {"call", "c_return"}:
            at = frame
        else:
            return
        if at is None or at is self._base or not self._is_safe(at):
            return
        self._left -= 1
        if self._left < 0:
            sys.setprofile(None)
            self.place = f"{at.f_code.co_filename}:{at.f_lineno} {at.f_code.co_name}, {event}"
            raise Cut(self.place)

    def _is_safe(self, frame: FrameType) -> bool:
        return delivers(frame.f_code, frame.f_lasti) and may_be_cut(self._up_from(frame))

    def _up_from(self, frame: FrameType | None) -> Iterator[FrameType]:
        while frame is not None and frame is not self._base:
            yield frame
            frame = frame.f_back


def cuts_of(function: Callable[[], Any], step: int = 1) -> Iterator[tuple[str, bool]]:
    """Call the function repeatedly, interrupted at a later place each time, until no place is left.

    Yields each place, so that the caller can check for half-done work there, and whether the exception left the
    function.
    """
    at = 0
    while True:
        knife = _Knife(sys._getframe(), at)
        try:
            sys.setprofile(knife)
            function()
            came_out = False
        except Cut:
            came_out = True
        finally:
            sys.setprofile(None)
        if not knife.place:
            return
        yield knife.place, came_out
        at += step
