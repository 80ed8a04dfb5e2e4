"""Whether an exception has been dropped by C code that called a Python function and cannot fail.

A destructor's, for one: up to CPython 3.12 a file object that has not been closed calls ``close()`` and drops what that
raises, without a word (``iobase_finalize`` in ``Modules/_io/iobase.c``). The exception has left a function, then, and
has not come up in the one below it.
"""

from __future__ import annotations

import opcode
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType, TracebackType

__all__ = ["was_dropped"]

#: What ends a function behind its ``finally`` blocks and ``with`` statements with the exception that came up in them.
_RERAISE: Final = opcode.opmap.get("RERAISE", -1)


def was_dropped(traceback: TracebackType | None) -> bool:
    """Say whether an exception that is at its end has left the outermost function of its traceback.

    Had that one caught it, it would still be running, or have ended in some other way.
    """
    if traceback is None:  # it has not been raised
        return False
    frame = traceback.tb_frame
    at = frame.f_lasti
    if at != traceback.tb_lasti and frame.f_code.co_code[at] != _RERAISE:
        return False
    execution: FrameType | None = sys._getframe()  # noqa: SLF001 - there is no other way to see what runs
    while execution is not None and execution is not frame:
        execution = execution.f_back
    return execution is None
