"""The execution of one message in this worker process."""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, cast

from dramatiq.common import q_name
from dramatiq.threading import is_gevent_active

from .._core.coroutines import Scope as CoroutineScope
from .._core.hubs import throw_from_hub
from .._protocol.json_fields import number_of
from .._protocol.outcome import Outcome, OutcomeState
from .._protocol.request import AbortMode, AbortRequest, key_of
from ..errors import Abort, AsyncAbort
from ..interrupt import InterruptResult
from .hooks import BaseExecution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from .. import interrupt
    from .._core.shield import AnyShield
    from .._protocol.rule import AbortRule
    from .hooks_py import AnyScope, ThreadScope
    from .loop_scopes import LoopScope

__all__ = ["Execution", "since_1970"]

#: Held while a message is interrupted or restored. A task's own thread never acquires it: from CPython 3.14 on, an
#: exception from elsewhere can be raised between acquiring a lock and entering its block, and the lock would stay held.
_pursuing = Lock()


#: Results of interrupting a thread's scope after which the event loop on that thread is not interrupted as well.
_THREADS_OWN: Final = frozenset({InterruptResult.RAISED, InterruptResult.DEFERRED, InterruptResult.CLOSED})


class Execution(BaseExecution):
    """The execution of one message by a worker thread, from before its processing until after it."""

    # Most messages never have an abort request, so the attributes for those that have one are class attributes.

    __slots__ = ()

    # Declared in the base class, and also set here.
    declined: AbortRequest | None
    scope: AnyScope
    #: After how many milliseconds its function is interrupted again if it continues; None: never.
    repeat: int | None = None
    #: The scope in which the worker thread waits for a coroutine, while ``scope`` is the coroutine's.
    waiting: ThreadScope | None = None
    #: The scope of the coroutine for which its thread runs an event loop, while the loop runs.
    loop: LoopScope | None = None
    #: Whether its exception has been raised in an earlier one of its scopes.
    has_raised_elsewhere: bool = False
    #: When this process received the abort request, in seconds on the monotonic clock; and the key of the event, if the
    #: request is a rule.
    requested: float | None = None
    rule: bytes | None = None
    #: When the grace period of that request ends, in seconds on the monotonic clock.
    deadline: float = 0.0
    #: Whether the scheduler is interrupting it, which starts when the grace period ends.
    is_pursued: bool = False
    #: Whether the log has reported that it does not stop.
    is_warned_of: bool = False
    #: Whether its worker thread has been interrupted so that it continues without the coroutine.
    is_left: bool = False
    #: The outcome, and the name of the exception type if the message has failed.
    state: OutcomeState = OutcomeState.COMPLETED
    failure: str | None = None
    _raised_at: float | None = None

    @property
    def message_id(self) -> str:
        return self.message.message_id

    @property
    def key(self) -> bytes:
        """The key of its abort requests in the event backend."""
        return key_of(self.message.message_id)

    @property
    def enqueued(self) -> int | None:
        """When the message was created, in milliseconds since 1970; None if its timestamp is missing or invalid."""
        return number_of(self.message.message_timestamp)

    @property
    def is_over(self) -> bool:
        """Whether its worker thread has finished processing it."""
        return self.ended is not None

    def matches(self, rule: AbortRule) -> bool:
        """Return whether a rule covers the message."""
        message = self.message
        tags = self.runtime.tags_of(message)
        return rule.matches(self.enqueued, message.actor_name, message.queue_name, tags)

    def accept(self, request: AbortRequest, age: float | None, rule: bytes | None = None) -> bool:
        """Accept an abort request for this message, and return whether it changes when the message is aborted.

        The grace period begins now, however long the request took to arrive, so that the task always has all of it. A
        further request can only end the grace period sooner, or set how often to interrupt. A request to cancel, made
        at least ``age`` ms ago, is accepted if it was made before the message started, and arrived late.
        """
        now = time.monotonic()
        if request.mode is AbortMode.CANCEL and (age is None or now - age / 1000 >= self.started):
            self.declined = request
            return False
        self.repeat = request.repeat or self.repeat
        deadline = now + request.grace / 1000
        if self.request is not None and deadline >= self.deadline:
            return False
        # Set the request last: a thread that sees it reads the deadline next.
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
        """Accept a request that was in effect before the message started."""
        self.state = OutcomeState.SKIPPED
        self.request, self.requested, self.rule = request, time.monotonic(), rule

    @property
    def attribution(self) -> str:
        """The requester and the reason, as the end of a sentence about the message."""
        return "" if self.request is None else self.request.attribution

    @property
    def is_awaited(self) -> bool:
        """Whether its outcome must be reported.

        A declined request counts only if the message has completed, because one that has failed may be retried.
        """
        if self.request is not None:
            return True
        return self.declined is not None and self.state is OutcomeState.COMPLETED

    def fail(self, exception: BaseException) -> None:
        """Record the exception with which the message ended."""
        if not isinstance(exception, Abort):
            self.state, self.failure = OutcomeState.FAILED, type(exception).__name__
        elif exception.failure is not None:
            self.state, self.failure = OutcomeState.FAILED, exception.failure
        else:
            self.state = OutcomeState.ABORTED

    def outcome(self, worker: str) -> Outcome:
        """Return the outcome of the message, which must be over."""
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
        """Drop the abort request if nothing has been raised yet, and return whether a request was dropped."""
        with _pursuing:
            if self.request is None or self.has_raised_elsewhere:
                return False
            if (loop := self.loop) is not None:  # first, because it raises what the thread's scope has not raised
                loop.revoke()
            if not self.scope.revoke():
                return False
            self.request = self.requested = self.rule = None
            return True

    def grace_left(self) -> float | None:
        """Return how many milliseconds of the grace period are left, or None without an abort request."""
        return None if self.request is None else max(0.0, (self.deadline - time.monotonic()) * 1000)

    def interrupt(self) -> InterruptResult:
        """Raise ``Abort`` in the message's function, if the function is running and can be interrupted now.

        ``Abort`` is raised once; or, if ``repeat`` is set, again each time that interval has passed. It is not raised
        if the message has been restored.
        """
        with _pursuing:
            if self.request is None:
                self.is_pursued = False
                return InterruptResult.CLOSED
            return self._interrupt()

    def _interrupt(self) -> InterruptResult:
        now = time.monotonic()
        scope = self.scope  # read once: the message's thread may change it meanwhile
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
        """Interrupt the event loop that is about to run, if ``Abort`` is due and has not been raised in its thread."""
        if self.grace_left() == 0:
            self._interrupt()

    def shield(self) -> AnyShield:
        """Return a context manager inside which interrupts wait."""
        return self._innermost_scope().shield()

    def frames(self) -> list[FrameType]:
        """Return the frames of the message's thread and of what its event loop runs, innermost last."""
        frames = self.scope.frames()
        awaited = [] if (loop := self.loop) is None else loop.frames()
        return frames + [frame for frame in awaited if frame not in frames]

    def _innermost_scope(self) -> AnyScope:
        return self.scope if (loop := self.loop) is None or not loop.is_open() else loop

    def check(self) -> None:
        """Raise ``Abort`` in the calling code if it is due.

        In the message's own scope it is raised once, and by the rules of shields. In a thread or task that the function
        has started, it is raised by each call.
        """
        if self.grace_left() != 0:
            return
        scope = self._innermost_scope()
        if not scope.is_here():
            self._interrupt()  # first: the function may be waiting for this thread, and would return once it has ended
            raise _exception_in(scope)
        with scope.shield():
            self._interrupt()

    def go_on_in(self, scope: AnyScope, waiting: ThreadScope | None, *, has_raised: bool) -> None:
        """Continue in another scope, in which the message is interrupted from now on. Called in the message's thread.

        Parameters:
          scope: The new scope.
          waiting: The scope in which the thread will wait, if the new scope is a coroutine's.
          has_raised: Whether ``Abort`` has been raised in an earlier scope. It is then not raised again.
        """
        self.scope, self.waiting, self.has_raised_elsewhere = scope, waiting, has_raised
        # After that: the scheduler may just have interrupted the previous scope, in which nothing is raised any more.
        if self.grace_left() == 0:
            self._interrupt()

    def begin_again(self) -> None:
        """Prepare for a second call of the function. An abort request holds for that call as well."""
        self.state, self.failure, self._raised_at = OutcomeState.COMPLETED, None, None
        self.go_on_in(self.runtime.new_scope(), None, has_raised=False)

    def rearm(self) -> bool:
        """Allow the exception to be raised again after it was dropped; return whether it can be."""
        return self.scope.rearm()

    def follow_itself(self) -> None:
        """Make the core follow the calling thread to a safe point. Only the pure-Python core needs this."""
        if hasattr(self.scope, "follow_itself"):
            self.scope.follow_itself()

    def library_of_loop_here(self) -> str | None:
        """Return the library whose event loop the caller runs in, as a coroutine or a callback, or None."""
        scope = self._innermost_scope()
        if not isinstance(scope, CoroutineScope) or not scope.is_in_a_loop():
            return None
        return None if is_gevent_active() and not scope.is_in_its_thread() else scope.library

    def ring(self) -> None:
        """Call every function registered with ``bell()``."""
        for ring in list(self._all_bells().values()):
            ring()

    @contextmanager
    def bell(self, ring: Callable[[], object]) -> Iterator[None]:
        """Have a function called, in another thread, each time the scheduler interrupts the message."""
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
        """Return the extra fields of a log line about the message."""
        request = self.request or AbortRequest()
        names = {"message_id": self.message_id, "actor": self.actor_name}
        return names | {"reason": request.reason, "by": request.by}

    def leave(self) -> bool:
        """Make the worker thread continue without its coroutine, once that has cleaned up for ``cleanup_timeout``.

        Called repeatedly until the message is over. Returns True for the first call after the timeout.
        """
        waiting, cleanup_timeout = self.waiting, self.runtime.cleanup_timeout
        if waiting is None or cleanup_timeout is None or self._raised_at is None:
            return False
        if time.monotonic() < self._raised_at + cleanup_timeout / 1000:
            return False
        waiting.interrupt(Abort)  # raised once, but it may take several attempts
        is_first, self.is_left = not self.is_left, True
        return is_first


def _exception_in(scope: AnyScope) -> type[Abort]:
    return AsyncAbort if isinstance(scope, CoroutineScope) else Abort


def since_1970(*moments: float | None) -> list[int | None]:
    """Convert times on the monotonic clock, in seconds, to milliseconds since 1970."""
    offset = time.time() - time.monotonic()  # read once for all, so that their order cannot change
    return [None if moment is None else int((moment + offset) * 1000) for moment in moments]
