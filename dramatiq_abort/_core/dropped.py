"""Detects exceptions that were dropped by C code that called a Python function and cannot fail.

A destructor is an example: up to CPython 3.12 a file object that has not been closed calls ``close()`` and drops any
exception silently (``iobase_finalize`` in ``Modules/_io/iobase.c``). The exception has then left one function without
being raised in the one below it.
"""

from __future__ import annotations

import opcode
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType, TracebackType

__all__ = ["was_dropped"]

#: The instruction that ends a function with the exception raised in it, after its ``finally`` and ``with`` blocks.
_RERAISE: Final = opcode.opmap.get("RERAISE", -1)


def was_dropped(traceback: TracebackType | None) -> bool:
    """Return whether an exception that is about to be deleted has left the outermost function of its traceback.

    A function that had caught it would still be running, or would have ended in another way.
    """
    if traceback is None:  # never raised
        return False
    frame = traceback.tb_frame
    at = frame.f_lasti
    if at != traceback.tb_lasti and frame.f_code.co_code[at] != _RERAISE:
        return False
    running: FrameType | None = sys._getframe()  # noqa: SLF001 - the only way to see what is running
    while running is not None and running is not frame:
        running = running.f_back
    return running is None
