"""Run the command line as users do: as a process, and on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from pathlib import Path
from select import select
from sysconfig import get_path
from time import monotonic
from typing import TYPE_CHECKING, Any

from support import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND = str(Path(get_path("scripts"), "dramatiq-abort"))

#: The sequences that switch a terminal to its alternate screen and back.
OTHER_SCREEN, OWN_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"

DOWN = b"\x1b[B"


class Terminal:
    """A command on a terminal.

    Parameters:
      words: The command.
      cwd, env: As for ``subprocess``.
      size: The lines and columns of the terminal.
      only_errors: Whether only standard error is the terminal.
    """

    def __init__(
        self,
        words: list[str],
        cwd: Path,
        env: Mapping[str, str],
        *,
        size: tuple[int, int] = (24, 120),
        only_errors: bool = False,
        stdin: Any = None,
    ) -> None:
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self._before = termios.tcgetattr(self._slave)
        # The first terminal that a session leader opens is its controlling terminal, which sends it Ctrl-C.
        opened = '2>"$TTY"' if only_errors else '<"$TTY" >"$TTY" 2>&1'
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", f'exec "$0" "$@" {opened}', *words],
            cwd=cwd,
            env={**env, "TTY": os.ttyname(self._slave)},
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.shown = b""
        self._read_to = 0

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def read_until(self, *texts: bytes) -> None:
        """Read until each of these texts has appeared after what was read before."""
        deadline = monotonic() + PATIENCE
        while not all(text in self.shown[self._read_to :] for text in texts):
            assert monotonic() < deadline, self.shown[-3000:]
            self._read(0.1)
        self._read_to = max(self.shown.index(text, self._read_to) + len(text) for text in texts)

    def end(self) -> int:
        """Wait for the end of the process, read the remaining output, and return the exit status."""
        deadline = monotonic() + PATIENCE
        while self.process.poll() is None:
            assert monotonic() < deadline, self.shown[-3000:]
            self._read(0.01)
        while self._read(0):
            pass
        return self.process.returncode

    @property
    def is_as_before(self) -> bool:
        """Whether the terminal's settings are the original ones."""
        return termios.tcgetattr(self._slave) == self._before

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    def _read(self, wait: float) -> bool:
        if select([self._master], [], [], wait)[0]:
            self.shown += os.read(self._master, 65536)
            return True
        return False
