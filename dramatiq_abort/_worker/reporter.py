"""The thread of a worker process that writes replies to the reply store."""

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

#: How often a worker renews its registration, in seconds, and how long a registration lasts, in ms.
_REGISTRATION_PERIOD: Final = 20.0
_REGISTRATION_TTL: Final = 60_000

#: The maximum number of queued replies, for example while the reply store does not answer. The oldest are dropped.
_MAX_QUEUED: Final = 10_000

#: How long to wait before retrying a reply store that failed, in seconds: usually, and while the worker stops.
_BACKOFF: Final = 0.5
_BACKOFF_AT_STOP: Final = 0.1

#: How long a stopping worker waits for its last replies to be written, in seconds.
_STOP_TIMEOUT: Final = 2.0


class Reporter:
    """Writes replies to the reply store and keeps the worker registered there, on a thread that runs only when needed.

    Neither a message nor the watcher therefore waits for a reply store that does not answer.

    Parameters:
      reply_store: The reply store of the event backend.
      entry: The worker's registration.
      logger: Logs when the reply store stops answering and when it answers again.
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
        """Queue a reply. May be called from any thread."""
        with self._changed:
            if self._stops_at is not None:
                return
            self._replies.append(reply)
            if len(self._replies) > _MAX_QUEUED:
                self._replies.popleft()
            self._begin_locked()

    def renew(self) -> None:
        """Renew the worker's registration if it is due. To be called often."""
        if time.monotonic() < self._renewed + _REGISTRATION_PERIOD:
            return
        with self._changed:
            if self._stops_at is None:
                self._renewed = time.monotonic()
                self._must_renew = True
                self._begin_locked()

    def stop(self) -> None:
        """Write the queued replies and unregister the worker; return when that is done, or after 2 seconds."""
        with self._changed:
            self._stops_at = time.monotonic() + _STOP_TIMEOUT
            self._changed.notify()
            self._begin_locked()
            thread = self._thread
        if thread is not None:
            thread.join(_STOP_TIMEOUT)

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
                    self._logger.warning(
                        "The reply store does not answer. Outcomes of aborts are queued until it does. %s: %s",
                        type(error).__name__,
                        error,
                    )
                with self._changed:
                    self._changed.wait(_BACKOFF if self._stops_at is None else _BACKOFF_AT_STOP)
            else:
                if self._is_down:
                    self._is_down = False
                    self._logger.info("The reply store answers again.")

    def _has_more(self) -> bool:
        """Return whether anything is left to do. If not, the thread ends."""
        with self._changed:
            is_too_late = self._stops_at is not None and time.monotonic() >= self._stops_at
            if self._is_gone or is_too_late or not (self._replies or self._must_renew or self._stops_at is not None):
                self._thread = None
                return False
            return True

    def _do(self) -> None:
        """Renew the registration if due, and write the next replies. What fails is kept for the next call."""
        if self._must_renew:
            self._reply_store.register(self._entry, _REGISTRATION_TTL)
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
