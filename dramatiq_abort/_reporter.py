"""The thread of a worker process that leaves word of what became of messages."""

from __future__ import annotations

import time
from collections import deque
from threading import Condition, Thread
from typing import TYPE_CHECKING, Final

from .board import MOST_NOTES

if TYPE_CHECKING:
    import logging

    from .board import Board, Note

__all__ = ["Reporter"]

#: How many notes wait at the most, as while the board does not answer. If there are more, the oldest are lost.
_MOST: Final = 10_000

#: How long to wait before a board that failed is tried again, in seconds.
_BACKOFF: Final = 0.5

#: For how long a worker that stops waits until its last notes are on the board, in seconds.
_LAST_WORDS: Final = 2.0


class Reporter:
    """Puts notes on a board, on a thread that there is only while there are any: no message waits for that."""

    def __init__(self, board: Board, logger: logging.Logger) -> None:
        self._board = board
        self._logger = logger
        self._changed = Condition()
        self._notes: deque[Note] = deque()
        self._thread: Thread | None = None
        self._stops_at: float | None = None
        self._is_down = False

    def post(self, note: Note) -> None:
        """Put up a note soon. From any thread."""
        with self._changed:
            if self._stops_at is not None:
                return
            self._notes.append(note)
            if len(self._notes) == _MOST + 1:
                self._notes.popleft()
            if self._thread is None:
                thread = Thread(target=self._run, name="dramatiq-abort reporter", daemon=True)
                thread.start()
                self._thread = thread

    def stop(self) -> None:
        """Return when all is on the board, or after 2 seconds."""
        with self._changed:
            thread = self._thread
            self._stops_at = time.monotonic() + _LAST_WORDS
            self._changed.notify()
        if thread is not None:
            thread.join(_LAST_WORDS)

    def _run(self) -> None:
        while notes := self._next():
            try:
                self._board.post(notes)
            except Exception as error:  # noqa: BLE001 - it is logged
                self._go_on_after(error, notes)
            else:
                if self._is_down:
                    self._is_down = False
                    self._logger.info("Outcomes can be told again.")

    def _next(self) -> list[Note]:
        """Take those that are to be put up at once; none when there are none, and then this was the last call."""
        with self._changed:
            notes = [self._notes.popleft() for _ in range(min(len(self._notes), MOST_NOTES))]
            if not notes or (self._stops_at is not None and time.monotonic() >= self._stops_at):
                self._thread = None
                return []
            return notes

    def _go_on_after(self, error: Exception, notes: list[Note]) -> None:
        if not self._is_down:
            self._is_down = True
            self._logger.warning(
                "The outcomes of aborts cannot be told now, and wait. %s: %s", type(error).__name__, error
            )
        with self._changed:
            self._notes.extendleft(reversed(notes))
            if self._stops_at is None:
                self._changed.wait(_BACKOFF)
