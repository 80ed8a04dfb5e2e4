"""The thread of a worker process that leaves word of what became of messages."""

from __future__ import annotations

import math
import time
from collections import deque
from threading import Condition, Thread
from typing import TYPE_CHECKING, Final

from .._protocol.reply import MAX_REPLIES

if TYPE_CHECKING:
    import logging

    from .._protocol.reply import Reply
    from ..backends.replies import ReplyStore

__all__ = ["Reporter"]

#: How often a worker renews its entry on the roll, in seconds, and for how long one lasts, in ms.
_PERIOD: Final = 20.0
_ENTRY: Final = 60_000

#: How many notes wait at the most, as while the board does not answer. If there are more, the oldest are lost.
_MOST: Final = 10_000

#: How long to wait before a board that failed is tried again, in seconds; and when the worker stops.
_BACKOFF: Final = 0.5
_LAST_BACKOFF: Final = 0.1

#: For how long a worker that stops waits until its last notes are on the board, in seconds.
_LAST_WORDS: Final = 2.0


class Reporter:
    """Puts notes on a board, and a worker on its roll, on a thread that there is only while there is something to do.

    So neither a message nor the watcher waits for a board that does not answer.

    Parameters:
      board: The board.
      entry: What the worker is on the roll with.
    """

    def __init__(self, reply_store: ReplyStore, entry: bytes, logger: logging.Logger) -> None:
        self._reply_store = reply_store
        self._entry = entry
        self._logger = logger
        self._changed = Condition()
        self._replies: deque[Reply] = deque()
        self._renewed = -math.inf
        self._must_renew = False
        self._thread: Thread | None = None
        self._stops_at: float | None = None
        self._is_down = False
        self._is_gone = False

    def put(self, reply: Reply) -> None:
        """Put up a note soon. From any thread."""
        with self._changed:
            if self._stops_at is not None:
                return
            self._replies.append(reply)
            if len(self._replies) > _MOST:
                self._replies.popleft()
            self._begin_locked()

    def renew(self) -> None:
        """See to it that the worker stays on the roll. To be called often."""
        if time.monotonic() < self._renewed + _PERIOD:
            return
        with self._changed:
            if self._stops_at is None:
                self._renewed = time.monotonic()
                self._must_renew = True
                self._begin_locked()

    def stop(self) -> None:
        """Return when all is on the board, and the worker off its roll, or after 2 seconds."""
        with self._changed:
            self._stops_at = time.monotonic() + _LAST_WORDS
            self._changed.notify()
            self._begin_locked()
            thread = self._thread
        if thread is not None:
            thread.join(_LAST_WORDS)

    def _begin_locked(self) -> None:
        if self._thread is None:
            thread = Thread(target=self._run, name="dramatiq-abort reporter", daemon=True)
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while self._has_more():
            try:
                self._do()
            except Exception as error:  # noqa: BLE001 - it is logged
                if not self._is_down:
                    self._is_down = True
                    what = "The outcomes of aborts cannot be told now, and wait. %s: %s"
                    self._logger.warning(what, type(error).__name__, error)
                with self._changed:
                    self._changed.wait(_BACKOFF if self._stops_at is None else _LAST_BACKOFF)
            else:
                if self._is_down:
                    self._is_down = False
                    self._logger.info("The outcomes of aborts can be told again.")

    def _has_more(self) -> bool:
        """Say whether there is anything to do; if not, this was the thread's last call."""
        with self._changed:
            is_too_late = self._stops_at is not None and time.monotonic() >= self._stops_at
            if self._is_gone or is_too_late or not (self._replies or self._must_renew or self._stops_at is not None):
                self._thread = None
                return False
            return True

    def _do(self) -> None:
        """Do the next thing; what has not been done is still to be done."""
        if self._must_renew:
            self._reply_store.register(self._entry, _ENTRY)
            self._must_renew = False
        with self._changed:
            replies = [self._replies.popleft() for _ in range(min(len(self._replies), MAX_REPLIES))]
        if replies:
            try:
                self._reply_store.put(replies)
            except BaseException:
                with self._changed:
                    self._replies.extendleft(reversed(replies))
                raise
        elif self._stops_at is not None:
            self._reply_store.unregister(self._entry)
            self._is_gone = True
