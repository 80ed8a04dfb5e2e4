"""The thread that interrupts messages later: when their grace period ends, or when the slot is free."""

from __future__ import annotations

import heapq
import time
from itertools import count
from threading import Condition, Thread
from typing import TYPE_CHECKING, Final

from .interrupt import Answer

if TYPE_CHECKING:
    import logging

    from ._running import Running

__all__ = ["Deadlines"]

#: After how long to try again when somebody else's exception was on its way into the thread, in seconds.
_TRY_AGAIN: Final = 0.005


class Deadlines:
    """Interrupts messages at given times, on a thread that there is only while something is due.

    Not the watcher's thread, because that one may be waiting for a backend that does not answer.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._changed = Condition()
        self._due: list[tuple[float, int, Running]] = []
        self._number = count()
        self._thread: Thread | None = None

    def interrupt(self, running: Running) -> None:
        """Interrupt the message now if its grace period is over, or else when it is."""
        if running.deadline > time.monotonic():
            self._add(running.deadline, running)
            return
        answer = running.interrupt()
        if answer is Answer.TAKEN:
            self._add(time.monotonic() + _TRY_AGAIN, running)
        elif answer in {Answer.RAISED, Answer.WAITING}:
            self._logger.info("Aborting message %s of actor %s.", running.message_id, running.actor_name)

    def stop(self) -> None:
        """Forget what is due, and return when the thread has ended."""
        with self._changed:
            thread = self._thread
            self._due.clear()
            self._changed.notify()
        if thread is not None:
            thread.join()

    def _add(self, when: float, running: Running) -> None:
        with self._changed:
            heapq.heappush(self._due, (when, next(self._number), running))
            self._changed.notify()
            if self._thread is None:
                self._thread = Thread(target=self._run, name="dramatiq-abort deadlines", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while (running := self._next()) is not None:
            try:
                self.interrupt(running)
            except Exception:
                self._logger.exception("Could not abort message %s.", running.message_id)

    def _next(self) -> Running | None:
        """Wait for the next that is due; None when there is none left, and then this was the thread's last call."""
        with self._changed:
            while self._due:
                left = self._due[0][0] - time.monotonic()
                if left <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(left)
            self._thread = None
            return None
