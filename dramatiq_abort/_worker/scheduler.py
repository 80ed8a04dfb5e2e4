"""The thread that interrupts messages later: when a grace period ends, when an interrupt can be retried, or repeatedly.

It keeps interrupting a message with an abort request until the message's function has ended.
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

#: When to interrupt again after each result, in seconds: after a tenth of the time that has passed since the deadline,
#: but within these limits. Also after RAISED, because others replace our pending exception by theirs without checking.
_ASK_AGAIN: Final = {
    InterruptResult.RAISED: (0.01, 1.0),
    InterruptResult.DEFERRED: (0.1, 1.0),
    InterruptResult.ARMED: (0.005, 1.0),
    InterruptResult.PROTECTED: (0.001, 0.02),
    InterruptResult.SLOT_BUSY: (0.005, 0.1),
    InterruptResult.UNSUPPORTED: (1.0, 1.0),
    InterruptResult.CLOSED: (0.01, 1.0),
}

#: Why a message does not stop, for the log.
_REASONS: Final = {
    InterruptResult.RAISED: "it has caught Abort and continues, is cleaning up, or is blocked in C code",
    InterruptResult.DEFERRED: "it is inside a shield",
    InterruptResult.ARMED: "it is in protected code",
    InterruptResult.PROTECTED: "it is in protected code",
    InterruptResult.SLOT_BUSY: "another exception is pending in its thread",
    InterruptResult.UNSUPPORTED: "this interpreter cannot raise exceptions in other threads",
}


class InterruptScheduler:
    """Interrupts messages at given times, on a thread that runs only while something is scheduled.

    It does not use the watcher's thread, which may be waiting for a backend that does not answer.

    Parameters:
      logger: Logs each abort, and messages that do not stop.
      warn_after: How many milliseconds after its deadline a message that does not stop is reported in the log, with its
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
        """Interrupt a message when its grace period ends, and again until its function has ended."""
        if execution.deadline > time.monotonic():
            self._at(execution.deadline, partial(self.interrupt, execution))
            return
        request = execution.request
        if execution.is_pursued or request is None:  # without a request: it has been restored
            return
        execution.is_pursued = True
        if self._pursue(execution) not in {InterruptResult.CLOSED, InterruptResult.UNSUPPORTED}:
            names = execution.message_id, execution.actor_name
            self._logger.info(
                "Aborting message %s of actor %s%s.", *names, request.attribution, extra=execution.fields()
            )

    def interrupt_again(self, execution: Execution) -> None:
        """Interrupt a message again after its exception was dropped, once it has left the code that dropped it."""
        self._at(time.monotonic() + _ASK_AGAIN[InterruptResult.PROTECTED][0], execution.interrupt)

    def stop(self) -> None:
        """Cancel everything that is scheduled, and return when the thread has ended."""
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
                    "Message %s of actor %s is still cleaning up %.1f s after its abort. It is cancelled once more; if "
                    "it does not end within a second, its worker thread continues without it.",
                    execution.message_id,
                    execution.actor_name,
                    late,
                    extra=execution.fields(),
                )
        # Also if the scope is closed: the function may be called again, and the request holds for that call, too.
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

    def _at(self, when: float, action: Callable[[], object]) -> None:
        with self._changed:
            if self._is_stopped:
                return
            heapq.heappush(self._due, (when, next(self._number), action))
            self._changed.notify()
            if self._thread is None:
                thread = Thread(target=self._run, name="dramatiq-abort scheduler", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while (action := self._next()) is not None:
            try:
                action()
            except Exception:
                self._logger.exception("Unexpected failure while aborting a message.")

    def _next(self) -> Callable[[], object] | None:
        """Wait for the next action that is due, and return it. Return None if nothing is left: the thread then ends."""
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
