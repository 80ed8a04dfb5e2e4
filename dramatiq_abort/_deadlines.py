"""The thread that interrupts messages later: when their grace period ends, or when nothing is in the way any more."""

from __future__ import annotations

import heapq
import time
from functools import partial
from itertools import count
from threading import Condition, Thread
from typing import TYPE_CHECKING, Final

from .interrupt import Answer

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from ._running import Running

__all__ = ["Deadlines"]

#: After how long to ask again, in seconds, where an answer leaves the matter open.
_ASK_AGAIN: Final = {Answer.ARMED: 0.02, Answer.PROTECTED: 0.001, Answer.TAKEN: 0.005, Answer.WAITING: 0.1}


class Deadlines:
    """Interrupts messages at given times, on a thread that there is only while something is due.

    Not the watcher's thread, because that one may be waiting for a backend that does not answer.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._changed = Condition()
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._number = count()
        self._thread: Thread | None = None
        self._is_stopped = False

    def interrupt(self, running: Running) -> None:
        """Interrupt the message now if its grace period is over, or else when it is."""
        if running.deadline > time.monotonic():
            self._at(running.deadline, partial(self.interrupt, running))
        elif self._try(running) not in {Answer.CLOSED, Answer.UNSUPPORTED}:
            self._logger.info("Aborting message %s of actor %s.", running.message_id, running.actor_name)

    def interrupt_again(self, running: Running) -> None:
        """Interrupt a message whose exception has been dropped, as soon as it is somewhere else."""
        self._at(time.monotonic() + _ASK_AGAIN[Answer.PROTECTED], partial(self._try, running))

    def stop(self) -> None:
        """Forget what is due, and return when the thread has ended."""
        with self._changed:
            thread = self._thread
            self._is_stopped = True
            self._due.clear()
            self._changed.notify()
        if thread is not None:
            thread.join()

    def _try(self, running: Running) -> Answer:
        answer = running.interrupt()
        if answer in _ASK_AGAIN:
            self._at(time.monotonic() + _ASK_AGAIN[answer], partial(self._try, running))
        return answer

    def _at(self, when: float, act: Callable[[], object]) -> None:
        with self._changed:
            if self._is_stopped:
                return
            heapq.heappush(self._due, (when, next(self._number), act))
            self._changed.notify()
            if self._thread is None:
                thread = Thread(target=self._run, name="dramatiq-abort deadlines", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while (act := self._next()) is not None:
            try:
                act()
            except Exception:
                self._logger.exception("A message could not be aborted.")

    def _next(self) -> Callable[[], object] | None:
        """Wait for the next that is due; None when there is none left, and then this was the thread's last call."""
        with self._changed:
            while self._due:
                left = self._due[0][0] - time.monotonic()
                if left <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(left)
            self._thread = None
            return None
