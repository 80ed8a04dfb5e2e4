"""A signal that makes a thread's blocking call look for an exception from outside.

From CPython 3.15 on, a call that a signal has interrupted raises the exception that is in its thread's slot before it
would be made once more (``PyErr_CheckSignals`` in ``Modules/signalmodule.c``, gh-144748): ``time.sleep``, sockets,
``select``, pipes, and waiting for a process. Calls that do not ask, those of locks among them, go on as before.

The signal is SIGURG: nobody is killed by it where nobody handles it, no debugger stops at it, and programs that handle
it must bear that it comes for no reason (Go's runtime has chosen it for the same task: ``runtime/signal_unix.go``).
"""

from __future__ import annotations

import platform
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["SUPPORTED", "install", "remove", "signal_number"]

#: Whether this interpreter can do it, on this system.
SUPPORTED: Final = (
    sys.version_info >= (3, 15) and platform.python_implementation() == "CPython" and hasattr(signal, "SIGURG")
)

#: How many have installed it, and not removed it yet.
_users = 0


def signal_number() -> int:
    """Return the signal that is to be sent to a thread with an exception on its way into it; 0 for none."""
    return int(signal.SIGURG) if _users and signal.getsignal(signal.SIGURG) is _do_nothing else 0


def install() -> bool:
    """Handle the signal, by doing nothing, and say whether it is handled.

    It is left alone if the program has a handler of its own, or ignores it. For the main thread.
    """
    global _users  # noqa: PLW0603
    if not SUPPORTED or threading.current_thread() is not threading.main_thread():
        return False
    if not _users and signal.getsignal(signal.SIGURG) is signal.SIG_DFL:
        signal.signal(signal.SIGURG, _do_nothing)  # behind which no system call is begun anew (Modules/signalmodule.c)
    if signal.getsignal(signal.SIGURG) is not _do_nothing:
        return False
    _users += 1
    return True


def remove() -> None:
    """Leave the signal as it was found, when all that have installed it do so. For the main thread."""
    global _users  # noqa: PLW0603
    if _users == 1 and signal_number():
        signal.signal(signal.SIGURG, signal.SIG_DFL)
    _users -= 1


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass
