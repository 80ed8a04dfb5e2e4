"""``ps --watch``: the running messages, refreshed repeatedly, and keys to abort them."""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .._client import abort as client
from .._client import inspection
from ..errors import AbortError
from ._keys import SUPPORTED, Keys, keys
from ._output import cell
from ._request import me
from ._snapshot import HEADS, as_table, print_summary, row, summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._protocol.snapshot import RunningMessage, Snapshot
    from ._session import Session

__all__ = ["watch"]

#: Number of lines other than rows: the title, the heads, an empty line, and the last two.
_OTHER_LINES: Final = 5

#: Minimum width of a name, in characters, before arguments get any room.
_NAME: Final = 24


def watch(session: Session, *, arguments: bool, timeout: int, every: int) -> int:
    """Show the running messages until q is pressed; without a terminal, until the process is stopped."""
    # Before the screen is switched, so that an error is shown as for any other command.
    snapshot = inspection.running(session.middleware, arguments=arguments, timeout=timeout)
    with _exit_on_sigterm(), keys() as typed:
        asker = _Asker(session, typed, snapshot, arguments=arguments, timeout=timeout, every=every)
        asker.start()
        if SUPPORTED:
            _Screen(session, snapshot, arguments=arguments).show(asker, typed)
            return 0
        while True:
            if snapshot.messages:
                session.output.table(as_table(snapshot, arguments=arguments))
            session.output.data(snapshot.asdict())
            print_summary(snapshot, session.output, timeout)
            typed.wait()
            snapshot, error = asker.latest
            if error:
                session.output.note(cell(error))


class _Asker(threading.Thread):
    """Asks the workers in a thread, so that an unresponsive one does not delay the keys."""

    def __init__(
        self, session: Session, typed: Keys, snapshot: Snapshot, *, arguments: bool, timeout: int, every: int
    ) -> None:
        super().__init__(daemon=True)
        self._middleware = session.middleware
        self._typed = typed
        self._arguments = arguments
        self._timeout = timeout
        self._every = every / 1000
        self._wanted = threading.Event()
        self.latest = snapshot, ""

    def hurry(self) -> None:
        """Ask now, rather than after the interval."""
        self._wanted.set()

    def run(self) -> None:
        while True:
            self._wanted.wait(self._every)
            self._wanted.clear()
            try:
                found = inspection.running(self._middleware, arguments=self._arguments, timeout=self._timeout)
                self.latest = found, ""
            except AbortError as error:  # the server may come back
                self.latest = self.latest[0], str(error)
            self._typed.ring()


class _Screen:
    """The full-screen display."""

    def __init__(self, session: Session, snapshot: Snapshot, *, arguments: bool) -> None:
        self._session = session
        self._snapshot = snapshot
        self._arguments = arguments
        self._error = ""
        self._message = ""
        self._selected: str | None = None
        self._to_confirm: str | None = None

    def show(self, asker: _Asker, typed: Keys) -> None:
        console = self._session.output.console
        with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                live.update(self._picture(console.height), refresh=True)
                for key in typed.wait():
                    if not self._press(key, asker):
                        return
                self._snapshot, self._error = asker.latest

    def _press(self, key: str, asker: _Asker) -> bool:
        """Handle a key, and return whether to go on."""
        if self._to_confirm is not None:
            wanted, self._to_confirm = self._to_confirm, None
            if key in {"y", "Y"}:
                self._message = self._abort(wanted)
                asker.hurry()
            else:
                self._message = "Not aborted."
            return True
        if key in {"q", "Q"}:
            return False
        ids = [message.message_id for message in self._snapshot]
        if not ids:
            return True
        place = ids.index(self._selected) if self._selected in ids else 0
        if key in {"up", "down"}:
            place += 1 if key == "down" else -1
            self._selected = ids[max(0, min(place, len(ids) - 1))]
        elif key in {"a", "enter"}:
            self._selected = self._to_confirm = ids[place]
        elif key == "r":
            self._message = self._restore(ids[place])
            asker.hurry()
        return True

    def _abort(self, message_id: str) -> str:
        try:
            client.abort(message_id, self._session.middleware, by=me())
        except (AbortError, ValueError) as error:
            return f"error: {error}"
        return f"Asked to abort message {message_id}."

    def _restore(self, message_id: str) -> str:
        try:
            restored = client.restore(message_id, self._session.middleware)
        except (AbortError, ValueError) as error:
            return f"error: {error}"
        return f"Message {message_id} was restored." if restored else f"Message {message_id} has no abort request."

    def _picture(self, height: int) -> Group:
        messages = self._snapshot.messages
        ids = [message.message_id for message in messages]
        if self._selected not in ids:
            self._selected = ids[0] if ids else None
        place = ids.index(self._selected) if self._selected is not None else 0
        room = max(1, height - _OTHER_LINES)
        first = max(0, min(place - room // 2, len(messages) - room))
        lines: list[Text | Table] = [_line(self._head(), "bold"), Text()]
        if messages:
            lines[1:] = [self._table(messages[first : first + room])]
        shown = 1 + max(1, len(messages[first : first + room]) + 1)
        lines += [Text()] * (height - shown - 2)
        lines += [_line(self._error or self._message, "red" if self._error else ""), self._foot()]
        return Group(*lines)

    def _head(self) -> str:
        unresponsive = [worker.worker for worker in self._snapshot.unresponsive]
        missing = f"; no reply from {', '.join(unresponsive)}" if unresponsive else ""
        return f"{summary(self._snapshot)} at {self._session.place}, {time.strftime('%H:%M:%S')}{missing}"

    def _table(self, messages: list[RunningMessage]) -> Table:
        rows = [row(message, arguments=self._arguments) for message in messages]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for head, *cells in zip([*HEADS, "ARGUMENTS"] if self._arguments else HEADS, *rows, strict=True):
            # Ids are cut last, because other commands need them. Arguments get the remaining room.
            widest = max(each.cell_len for each in cells)
            at_least = None if head == "ARGUMENTS" else widest if head == "MESSAGE" else min(widest, _NAME)
            table.add_column(head, no_wrap=True, overflow="ellipsis", min_width=at_least)
        for message, cells in zip(messages, rows, strict=True):
            table.add_row(*cells, style="reverse" if message.message_id == self._selected else "")
        return table

    def _foot(self) -> Text:
        if self._to_confirm is not None:
            return _line(f"Abort message {self._to_confirm}? y: yes, any other key: no", "bold yellow")
        return _line("up, down: select   a: abort   r: restore   q: quit", "dim")


def _line(text: str, style: str) -> Text:
    line = cell(text, style)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Exit normally on SIGTERM, so that the settings of the terminal are restored."""
    before: Any = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
