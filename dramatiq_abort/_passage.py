"""What every message goes through, from the compiled core where that is in use, else in pure Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .interrupt import IMPLEMENTATION

__all__ = ["InScope", "Passage", "Taken"]

if TYPE_CHECKING or IMPLEMENTATION != "cython":
    from ._passage_py import InScope, Passage, Taken
else:
    from ._interrupt import InScope, Passage, Taken
