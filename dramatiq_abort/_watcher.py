"""The thread of a worker process that hears of abort requests and passes them on to the messages that run."""

from __future__ import annotations

import random
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Final

from ._complaints import Complaints
from ._deadlines import Deadlines
from ._unraisable import UnraisableAborts
from .errors import InvalidRequest
from .request import AbortMode, AbortRequest

if TYPE_CHECKING:
    import logging

    from ._running import RunningMessages
    from .backend import EventBackend

__all__ = ["Watcher"]

#: For how long to wait for one event, in ms: after that a stopped watcher looks up.
_WAIT: Final = 550

#: The same for a backend that must be told all keys anew to hear of those that have been added.
_SHORT_WAIT: Final = 50

#: How long a worker's boot waits for the backend's first answer at the most, in seconds.
_LONGEST_BOOT: Final = 5.0

#: How long to wait before a backend that failed is tried again, in seconds, at first and at the most.
_BACKOFF: Final = 0.05
_LONGEST_BACKOFF: Final = 0.5


class Watcher:
    """Watches one event backend for one worker process."""

    def __init__(
        self, backend: EventBackend, running: RunningMessages, logger: logging.Logger, report_after: int | None
    ) -> None:
        self._backend = backend
        self._running = running
        self._logger = logger
        self._complaints = Complaints(logger)
        self._deadlines = Deadlines(logger, report_after)
        self._unraisable = UnraisableAborts(self._deadlines.interrupt_again)
        self._stopping = Event()
        self._has_begun = Event()
        #: Handed out by the backend, and not passed on yet.
        self._unread: bytes | None = None
        self._thread = Thread(target=self._run, name="dramatiq-abort watcher", daemon=True)
        self._reporting = Lock()
        self._is_down = False

    def start(self) -> None:
        """Return when the backend has answered, or failed to: what was asked before is known to the first message."""
        self._unraisable.install()
        self._thread.start()
        self._has_begun.wait(_LONGEST_BOOT)

    def stop(self) -> None:
        """Return when all threads have ended."""
        self._stopping.set()
        self._backend.wake()
        self._thread.join()
        self._backend.wake()  # it may have begun to wait once more
        self._deadlines.stop()
        self._unraisable.remove()

    def request_for(self, key: bytes) -> AbortRequest | None:
        """Return the live request with this key; None if there is none, or if the backend does not answer."""
        try:
            if not self._backend.poll(key):
                return None
            event = self._backend.read(key)
        except Exception as error:
            self._report_down(error)
            return None
        return None if event is None else self._decode(event.key, event.value)

    def _run(self) -> None:
        backoff = _BACKOFF
        wait = 0
        while not self._stopping.is_set():
            try:
                if self._unread is None:
                    self._unread = self._wait(wait)
                if self._unread is not None:
                    self._pass_on(self._unread)
                    self._unread = None
                self._report_up()
                backoff, wait = _BACKOFF, _WAIT
                self._has_begun.set()
            except Exception as error:
                self._report_down(error)
                self._has_begun.set()
                self._stopping.wait(backoff * random.uniform(0.5, 1.0))
                backoff = min(2 * backoff, _LONGEST_BACKOFF)

    def _wait(self, longest: int) -> bytes | None:
        if self._backend.hears_all:
            return self._backend.wait_many(self._running, longest)
        keys = list(self._running)
        if keys:
            return self._backend.wait_many(keys, _SHORT_WAIT)
        self._stopping.wait(_SHORT_WAIT / 1000)
        return None

    def _pass_on(self, key: bytes) -> None:
        event = self._backend.read(key)
        if event is None:
            for running in self._running.with_key(key):
                if running.retract():
                    self._logger.info("Message %s of actor %s goes on.", running.message_id, running.actor_name)
            return
        request = self._decode(key, event.value)
        if request is None:
            return
        age = self._backend.age(key) if request.mode is AbortMode.CANCEL else None
        for running in self._running.with_key(key):
            if running.accept(request, age):
                self._deadlines.interrupt(running)

    def _decode(self, key: bytes, value: bytes) -> AbortRequest | None:
        try:
            return AbortRequest.decode(value)
        except InvalidRequest as error:
            self._complaints.warning("What was signaled with key %.200r is ignored: %s.", key, error)
            return None

    def _report_down(self, error: Exception) -> None:
        with self._reporting:
            was_down, self._is_down = self._is_down, True
        if not was_down:
            self._logger.error(
                "The event backend does not answer. Messages are processed as usual; aborts take effect when it is "
                "back. %s: %s",
                type(error).__name__,
                error,
            )
            self._logger.debug("This is where it failed.", exc_info=error)

    def _report_up(self) -> None:
        with self._reporting:
            was_down, self._is_down = self._is_down, False
        if was_down:
            self._logger.info("The event backend answers again.")
