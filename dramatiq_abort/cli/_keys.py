"""Reading single keys from a terminal."""

from __future__ import annotations

import os
import re
import select
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

try:
    import termios
    import tty
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SUPPORTED", "Keys", "keys"]

#: Whether keys can be read.
SUPPORTED: Final = termios is not None and sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()

#: The bytes sent by a key: an escape sequence, or one byte.
_KEY: Final = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)

_NAMES: Final = {
    **dict.fromkeys((b"\x1b[A", b"\x1bOA", b"k"), "up"),
    **dict.fromkeys((b"\x1b[B", b"\x1bOB", b"j"), "down"),
    **dict.fromkeys((b"\r", b"\n"), "enter"),
    **dict.fromkeys((b"\x1b", b"\x03"), "escape"),
}


class Keys:
    """Waits for keys, and for a bell that another thread may ring.

    Parameters:
      is_typed: Whether there is a keyboard; without one, only the bell ends a wait.
    """

    def __init__(self, *, is_typed: bool) -> None:
        self._pipe = os.pipe() if is_typed else None
        self._rung = threading.Event()

    def ring(self) -> None:
        """End a ``wait``, from any thread."""
        self._rung.set()
        if self._pipe is not None:
            os.write(self._pipe[1], b".")

    def wait(self) -> list[str]:
        """Wait for keys or the bell, and return the pressed keys, none if only the bell has rung."""
        if self._pipe is None:
            while not self._rung.wait(1):  # on Windows, Ctrl-C is noticed between two waits
                pass
            self._rung.clear()
            return []
        ready, _, _ = select.select([self._pipe[0], sys.stdin], [], [])
        if self._pipe[0] in ready:
            os.read(self._pipe[0], 1024)
        if sys.stdin not in ready:
            return []
        typed = os.read(sys.stdin.fileno(), 1024)
        # A closed terminal is always at its end: quit.
        return [_NAMES.get(key, key.decode(errors="replace")) for key in _KEY.findall(typed)] or ["q"]


@contextmanager
def keys() -> Iterator[Keys]:
    """Return a context in which keys are read from the terminal, if any; its settings are restored at the end."""
    typed = Keys(is_typed=SUPPORTED)
    if not SUPPORTED:
        yield typed
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield typed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
