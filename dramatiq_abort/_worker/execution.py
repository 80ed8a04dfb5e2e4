"""One message that this worker process is running."""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from dramatiq.common import q_name
from dramatiq.threading import is_gevent_active

from .._core.coroutines import Scope as CoroutineScope
from .._core.hubs import throw_from_hub
from .._protocol.outcome import Outcome, OutcomeState
from .._protocol.request import AbortMode, AbortRequest, key_of
from .._protocol.validation import number_of
from ..errors import Abort, AsyncAbort
from ..interrupt import InterruptResult
from .hooks import BaseExecution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from .. import interrupt
    from .._core import greenlets
    from .._core.shield import AnyShield
    from .loops import LoopScope

    #: That of a worker thread, which may be a greenlet.
    ThreadScope: TypeAlias = interrupt.Scope | greenlets.Scope
    AnyScope: TypeAlias = ThreadScope | CoroutineScope

__all__ = ["Execution", "since_1970"]

#: Held while a message is interrupted, or its request is taken back. Never by a task's own thread: from CPython 3.14 on
#: somebody else's exception can come up between the taking of a lock and its block, and it would be held for ever.
_pursuing = Lock()


#: Answers of a thread's scope that hold for the event loop on that thread, too.
_THREADS_OWN: Final = frozenset({InterruptResult.RAISED, InterruptResult.DEFERRED, InterruptResult.CLOSED})


class Execution(BaseExecution):
    """One message that a worker thread has taken, from before its processing until after it."""

    # Most messages are never asked to stop: what only those need that are is not set for each.

    __slots__ = ()

    # As in the base class: they are set here, too.
    declined: AbortRequest | None
    scope: AnyScope
    #: After how many milliseconds its function is interrupted again, if it goes on; None: never.
    repeat: int | None = None
    #: Where its worker thread waits for a coroutine, which has the scope meanwhile.
    waiting: ThreadScope | None = None
    #: What its thread runs an event loop for, while it does.
    loop: LoopScope | None = None
    #: Whether its exception has been raised in another one of its scopes.
    has_raised_elsewhere: bool = False
    #: When this process has heard of the request to abort it, in seconds on the monotonic clock; and the key of the
    #: event, if that is a rule.
    requested: float | None = None
    rule: bytes | None = None
    #: When the grace period of that request ends, in seconds on the monotonic clock.
    deadline: float = 0.0
    #: Whether somebody sees to it that it is interrupted, from the end of its grace period on.
    is_pursued: bool = False
    #: Whether the log has it that it does not stop.
    is_warned_of: bool = False
    #: Whether its worker thread has been told to go on without it.
    is_left: bool = False
    #: What came of it.
    state: OutcomeState = OutcomeState.COMPLETED
    failure: str | None = None
    _raised_at: float | None = None

    @property
    def message_id(self) -> str:
        return self.message.message_id

    @property
    def key(self) -> bytes:
        """By which an event backend knows it."""
        return key_of(self.message.message_id)

    @property
    def enqueued(self) -> int | None:
        """When the message was made, in milliseconds since 1970; None: whoever has made it does not say."""
        return number_of(self.message.message_timestamp)

    @property
    def is_over(self) -> bool:
        """Whether its worker thread is done with it."""
        return self.ended is not None

    def accept(self, request: AbortRequest, age: float | None, rule: bytes | None = None) -> bool:
        """Take a request for this message, and say whether it changes anything.

        The grace period begins now, however long the request was on its way: that much time is the task's. A second
        request can only end it sooner, or say how often to interrupt. One to cancel the message counts if it was made
        before the start, ``age`` ms ago at the least, and came late.
        """
        now = time.monotonic()
        if request.mode is AbortMode.CANCEL and (age is None or now - age / 1000 >= self.started):
            self.declined = request
            return False
        self.repeat = request.repeat or self.repeat
        deadline = now + request.grace / 1000
        if self.request is not None and deadline >= self.deadline:
            return False
        # The request comes last: whoever sees it in another thread asks for its deadline.
        self.deadline, self.rule = deadline, rule
        if self.requested is None:
            self.requested = now
        self.request = request
        return True

    @property
    def _latency(self) -> float | None:
        if self.state is not OutcomeState.ABORTED or self.requested is None or self.ended is None:
            return None
        return round((self.ended - self.requested) * 1000, 3)

    def skip(self, request: AbortRequest, rule: bytes | None) -> None:
        """Take a request that was there before the start."""
        self.state = OutcomeState.SKIPPED
        self.request, self.requested, self.rule = request, time.monotonic(), rule

    @property
    def attribution(self) -> str:
        """By whom and why it is to be aborted, to be put behind what is said of it."""
        return "" if self.request is None else self.request.attribution

    @property
    def is_awaited(self) -> bool:
        """Whether somebody is to be told what became of it. Not of what has failed, and may be tried again."""
        if self.request is not None:
            return True
        return self.declined is not None and self.state is OutcomeState.COMPLETED

    def fail(self, exception: BaseException) -> None:
        """Note what came out of the message, if that is not its result."""
        if not isinstance(exception, Abort):
            self.state, self.failure = OutcomeState.FAILED, type(exception).__name__
        elif exception.failure is not None:
            self.state, self.failure = OutcomeState.FAILED, exception.failure
        else:
            self.state = OutcomeState.ABORTED

    def outcome(self, worker: str) -> Outcome:
        """Tell what became of it, now that it is over."""
        request = self.request or self.declined or AbortRequest()
        started = None if self.state is OutcomeState.SKIPPED else self.started
        started_at, requested_at, ended_at = since_1970(started, self.requested, self.ended)
        return Outcome(
            self.message_id,
            self.state,
            actor=self.actor_name,
            queue=q_name(self.message.queue_name),
            worker=worker,
            enqueued=self.enqueued,
            started=started_at,
            requested=requested_at,
            ended=ended_at,
            latency=self._latency,
            exception=self.failure,
            reason=request.reason,
            by=request.by,
        )

    def restore(self) -> bool:
        """Forget the request, if nothing has been raised yet, and say whether there was one."""
        with _pursuing:
            if self.request is None or self.has_raised_elsewhere:
                return False
            if (loop := self.loop) is not None:  # first: it raises what the thread's scope has not raised
                loop.revoke()
            if not self.scope.revoke():
                return False
            self.request = self.requested = self.rule = None
            return True

    def grace_left(self) -> float | None:
        """How many milliseconds the message may go on after a request to abort it; None without one."""
        return None if self.request is None else max(0.0, (self.deadline - time.monotonic()) * 1000)

    def interrupt(self) -> InterruptResult:
        """Raise ``Abort`` in the message's function, if it is running and nothing is in the way.

        Once; or, if it is to be interrupted again, each time when that has been long enough ago. Not at all if the
        request has been taken back.
        """
        with _pursuing:
            if self.request is None:
                self.is_pursued = False
                return InterruptResult.CLOSED
            return self._interrupt()

    def _interrupt(self) -> InterruptResult:
        now = time.monotonic()
        scope = self.scope  # once: its thread may change it meanwhile
        if self.repeat and self._raised_at is not None and now >= self._raised_at + self.repeat / 1000:
            is_armed, self.has_raised_elsewhere = self.has_raised_elsewhere or scope.rearm(), False
            self._raised_at = None if is_armed else now
        answer = InterruptResult.RAISED if self.has_raised_elsewhere else scope.interrupt(_exception_in(scope))
        if (loop := self.loop) is not None and answer not in _THREADS_OWN:
            in_loop = loop.interrupt(AsyncAbort)
            answer = answer if in_loop is InterruptResult.CLOSED else in_loop
        elif answer in {InterruptResult.ARMED, InterruptResult.PROTECTED} and not is_gevent_active():
            throw_from_hub(cast("interrupt.Scope", scope), Abort)
        if answer is InterruptResult.RAISED and self._raised_at is None:
            self._raised_at = now
        return answer

    def hand_on(self) -> None:
        """Raise in the event loop that is about to run what has not been raised in its thread."""
        if self.grace_left() == 0:
            self._interrupt()

    def shield(self) -> AnyShield:
        """Return a context manager inside of which interrupts wait."""
        return self._innermost_scope().shield()

    def frames(self) -> list[FrameType]:
        """Return the frames of the message's thread, and of what its event loop runs, innermost last."""
        frames = self.scope.frames()
        awaited = [] if (loop := self.loop) is None else loop.frames()
        return frames + [frame for frame in awaited if frame not in frames]

    def _innermost_scope(self) -> AnyScope:
        return self.scope if (loop := self.loop) is None or not loop.is_open() else loop

    def check(self) -> None:
        """Raise ``Abort`` here if it is due, and as long as that has not been done.

        In its own scope by the rules of shields; in a thread or task that the function has started, each time.
        """
        if self.grace_left() != 0:
            return
        scope = self._innermost_scope()
        if not scope.is_here():
            self._interrupt()  # first: it may wait for the end of this thread, and would return if that came before
            raise _exception_in(scope)
        with scope.shield():
            self._interrupt()

    def go_on_in(self, scope: AnyScope, waiting: ThreadScope | None, *, has_raised: bool) -> None:
        """Be interrupted in another scope from now on; in its own thread.

        Parameters:
          waiting: Where the thread will wait, if the scope is a coroutine's.
          has_raised: Whether the exception has been raised in one of those before. It is raised once.
        """
        self.scope, self.waiting, self.has_raised_elsewhere = scope, waiting, has_raised
        # Behind that: whoever interrupts may have seen the one before, in which nothing is raised any more.
        if self.grace_left() == 0:
            self._interrupt()

    def begin_again(self) -> None:
        """Let the function be called a second time: what it was to be aborted for holds for that call, too."""
        self.state, self.failure, self._raised_at = OutcomeState.COMPLETED, None, None
        self.go_on_in(self.runtime.new_scope(), None, has_raised=False)

    def rearm(self) -> bool:
        """Let the exception be raised again, after the last one was dropped; say whether it may be."""
        return self.scope.rearm()

    def follow_itself(self) -> None:
        """Have the core watch this thread itself: only the pure-Python core has to be told."""
        if hasattr(self.scope, "follow_itself"):
            self.scope.follow_itself()

    def library_of_loop_here(self) -> str | None:
        """Return whose event loop the caller is in, as a coroutine or a callback; None: it is in none."""
        scope = self._innermost_scope()
        if not isinstance(scope, CoroutineScope) or not scope.is_in_a_loop():
            return None
        return None if is_gevent_active() and not scope.is_in_its_thread() else scope.library

    def ring(self) -> None:
        """Wake those who wait until the message is to stop."""
        for ring in list(self._all_bells().values()):
            ring()

    @contextmanager
    def bell(self, ring: Callable[[], object]) -> Iterator[None]:
        """Have this called, in another thread, when the message is to stop, and each time when that is tried again."""
        bells, key = self._all_bells(), object()
        bells[key] = ring
        try:
            yield
        finally:
            del bells[key]

    def _all_bells(self) -> dict[object, Callable[[], object]]:
        bells: dict[object, Callable[[], object]] = vars(self).setdefault("_bells", {})  # few messages have any
        return bells

    def fields(self) -> dict[str, Any]:
        """Return what a line in the log has of it, beside its text."""
        request = self.request or AbortRequest()
        names = {"message_id": self.message_id, "actor": self.actor_name}
        return names | {"reason": request.reason, "by": request.by}

    def leave(self) -> bool:
        """Let the worker thread go on, if the coroutine that it waits for has had its time.

        To be called until the message is over. Says whether this was the first call that found the time over.
        """
        waiting, cleanup_timeout = self.waiting, self.runtime.cleanup_timeout
        if waiting is None or cleanup_timeout is None or self._raised_at is None:
            return False
        if time.monotonic() < self._raised_at + cleanup_timeout / 1000:
            return False
        waiting.interrupt(Abort)  # once in all; but each time there can be something in the way
        is_first, self.is_left = not self.is_left, True
        return is_first


def _exception_in(scope: AnyScope) -> type[Abort]:
    return AsyncAbort if isinstance(scope, CoroutineScope) else Abort


def since_1970(*moments: float | None) -> list[int | None]:
    """Return the milliseconds on the clock on the wall, for the seconds on the monotonic one, in the same order."""
    ahead = time.time() - time.monotonic()  # once, or what is later could come out earlier
    return [None if moment is None else int((moment + ahead) * 1000) for moment in moments]
