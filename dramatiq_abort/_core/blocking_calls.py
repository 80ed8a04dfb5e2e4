"""A signal that makes a thread's blocking call check for an exception from another thread.

From CPython 3.15 on, a call that a signal has interrupted raises the exception in its thread's slot before it is
retried (``PyErr_CheckSignals`` in ``Modules/signalmodule.c``, gh-144748). This covers ``time.sleep``, sockets,
``select``, pipes, and waiting for a process. Calls that do not check for signals, such as those of locks, go on as
before.

The signal is SIGURG. It is ignored by default, debuggers do not stop at it, and programs that handle it must tolerate
spurious ones (Go's runtime uses it for the same purpose: ``runtime/signal_unix.go``).
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

#: Whether this interpreter and this system support it.
SUPPORTED: Final = (
    sys.version_info >= (3, 15) and platform.python_implementation() == "CPython" and hasattr(signal, "SIGURG")
)

#: The number of callers that have installed the handler and have not removed it yet.
_installed = 0


def signal_number() -> int:
    """Return the number of the signal to send to a thread that has an exception pending; 0 for none."""
    return int(signal.SIGURG) if _installed and signal.getsignal(signal.SIGURG) is _do_nothing else 0


def install() -> bool:
    """Install a handler that does nothing, and return whether it is installed.

    Leaves the signal alone if the program handles or ignores it. To be called from the main thread.
    """
    global _installed  # noqa: PLW0603
    if not SUPPORTED or threading.current_thread() is not threading.main_thread():
        return False
    if not _installed and signal.getsignal(signal.SIGURG) is signal.SIG_DFL:
        # without SA_RESTART, so that interrupted system calls return (Modules/signalmodule.c)
        signal.signal(signal.SIGURG, _do_nothing)
    if signal.getsignal(signal.SIGURG) is not _do_nothing:
        return False
    _installed += 1
    return True


def remove() -> None:
    """Restore the signal's default when the last caller removes the handler. To be called from the main thread."""
    global _installed  # noqa: PLW0603
    if _installed == 1 and signal_number():
        signal.signal(signal.SIGURG, signal.SIG_DFL)
    _installed -= 1


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass
