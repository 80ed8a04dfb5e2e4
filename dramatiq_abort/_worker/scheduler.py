"""The thread that interrupts messages later: when their grace period ends, when nothing is in the way any more, again.

It stays with a message that is to be aborted until its function has ended.
"""

from __future__ import annotations

import heapq
import time
import traceback
from functools import partial
from itertools import count
from threading import Condition, Thread
from typing import TYPE_CHECKING, Final

from .._core.gil import GIL_IS_ON
from ..interrupt import InterruptResult

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from types import FrameType

    from .execution import Execution

__all__ = ["InterruptScheduler"]

#: After how long to ask again, in seconds, at first and at the most: a tenth of the time that has passed already. Also
#: after RAISED: others put their exceptions in the place of ours without a look.
_ASK_AGAIN: Final = {
    InterruptResult.RAISED: (0.01, 1.0),
    InterruptResult.DEFERRED: (0.1, 1.0),
    InterruptResult.ARMED: (0.005, 1.0),
    InterruptResult.PROTECTED: (0.001, 0.02),
    InterruptResult.SLOT_BUSY: (0.005, 0.1),
    InterruptResult.UNSUPPORTED: (1.0, 1.0),
    InterruptResult.CLOSED: (0.01, 1.0),
}

#: What holds up a message that does not stop.
_REASONS: Final = {
    InterruptResult.RAISED: "it has caught Abort and goes on, cleans up, or waits in code that is not Python's",
    InterruptResult.DEFERRED: "it is behind a shield",
    InterruptResult.ARMED: "it is in code that must not be left half done",
    InterruptResult.PROTECTED: "it is in code that must not be left half done",
    InterruptResult.SLOT_BUSY: "somebody else's exception is on its way into its thread",
    InterruptResult.UNSUPPORTED: "this interpreter cannot interrupt a thread",
}


class InterruptScheduler:
    """Interrupts messages at given times, on a thread that there is only while something is due.

    Not the watcher's thread, because that one may be waiting for a backend that does not answer.

    Parameters:
      warn_after: How many milliseconds after its time a message that does not stop is reported in the log, with its
        stack; None: never.
    """

    def __init__(self, logger: logging.Logger, warn_after: int | None) -> None:
        self._logger = logger
        self._warn_after = warn_after
        self._changed = Condition()
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._number = count()
        self._thread: Thread | None = None
        self._is_stopped = False

    def interrupt(self, execution: Execution) -> None:
        """Interrupt the message now if its grace period is over, or else when it is, and stay with it."""
        if execution.deadline > time.monotonic():
            self._at(execution.deadline, partial(self.interrupt, execution))
            return
        request = execution.request
        if execution.is_pursued or request is None:  # or it has been taken back
            return
        execution.is_pursued = True
        if self._pursue(execution) not in {InterruptResult.CLOSED, InterruptResult.UNSUPPORTED}:
            names = execution.message_id, execution.actor_name
            self._logger.info(
                "Aborting message %s of actor %s%s.", *names, request.attribution, extra=execution.fields()
            )

    def interrupt_again(self, execution: Execution) -> None:
        """Interrupt a message whose exception has been dropped, as soon as it is somewhere else."""
        self._at(time.monotonic() + _ASK_AGAIN[InterruptResult.PROTECTED][0], execution.interrupt)

    def stop(self) -> None:
        """Forget what is due, and return when the thread has ended."""
        with self._changed:
            thread = self._thread
            self._is_stopped = True
            self._due.clear()
            self._changed.notify()
        if thread is not None:
            thread.join()

    def _pursue(self, execution: Execution) -> InterruptResult:
        if execution.is_over:
            return InterruptResult.CLOSED
        answer = execution.interrupt()
        execution.ring()
        now = time.monotonic()
        late = now - execution.deadline
        if answer is not InterruptResult.CLOSED:
            if self._warn_after is not None and late * 1000 >= self._warn_after and not execution.is_warned_of:
                self._report(execution, late, _REASONS[answer])
            if execution.leave():
                self._logger.warning(
                    "Message %s of actor %s still cleans up %.1f s after its abort: it is cancelled once more, and if "
                    "that does not end it within a second, its worker thread goes on without it.",
                    execution.message_id,
                    execution.actor_name,
                    late,
                    extra=execution.fields(),
                )
        # Also where the scope is closed: the function may be called once more, and a request holds for that, too.
        if answer is not InterruptResult.CLOSED or execution.is_pursued:
            shortest, longest = _ASK_AGAIN[answer]
            self._at(now + min(max(shortest, late / 10), longest), partial(self._pursue, execution))
        return answer

    def _report(self, execution: Execution, late: float, reason: str) -> None:
        execution.is_warned_of = True
        frames = execution.frames()
        self._logger.warning(
            "Message %s of actor %s should have stopped %.1f s ago: %s.\n%s",
            execution.message_id,
            execution.actor_name,
            late,
            reason,
            _text_of(frames, execution),
            extra=execution.fields(),
        )

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


def _text_of(frames: list[FrameType], execution: Execution) -> str:
    if not frames:
        if execution.has_begun and not GIL_IS_ON:
            return "Its stack cannot be read while the GIL is off."
        return "Its function has not been called."
    stack = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames)
    return "".join(stack.format()).rstrip()
