"""The messages that this worker process is running."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias

from .errors import Abort
from .interrupt import Answer
from .request import AbortMode, key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from . import _coroutines, _greenlets, interrupt
    from .request import AbortRequest

    #: That of a worker thread, which may be a greenlet.
    ThreadScope: TypeAlias = interrupt.Scope | _greenlets.Scope
    AnyScope: TypeAlias = ThreadScope | _coroutines.Scope

__all__ = ["Running", "RunningMessages"]

_changing_bells = Lock()


class Running:
    """One message that a worker thread has taken, from before its processing until after it."""

    # Most messages are never asked to stop: what only those need that are is not set for each.

    #: What is raised in the scope.
    exception: type[Abort] = Abort
    #: After how many milliseconds its function is interrupted again, if it goes on; None: never.
    repeat: int | None = None
    #: Where its worker thread waits for it, if it is a coroutine.
    waiting: ThreadScope | None = None
    #: How many milliseconds after the exception the worker thread goes on without it; None: never.
    cleanup_timeout: int | None = None
    #: The request to abort it, from the moment when this process hears of it.
    request: AbortRequest | None = None
    #: When the grace period of that request ends, in seconds on the monotonic clock.
    deadline = 0.0
    #: Whether somebody sees to it that it is interrupted, from the end of its grace period on.
    is_pursued = False
    #: Whether the log has it that it does not stop.
    is_reported = False
    #: Whether its worker thread has been told to go on without it.
    is_left = False
    #: Whether its worker thread is done with it.
    is_over = False
    _raised_at: float | None = None
    _begun = False
    _bells: tuple[Callable[[], object], ...] = ()

    def __init__(self, message_id: str, actor_name: str, scope: AnyScope) -> None:
        self.message_id = message_id
        self.actor_name = actor_name
        self.key = key_of(message_id)
        self.scope = scope
        #: When its worker thread took it, in seconds on the monotonic clock.
        self.started = time.monotonic()

    def begins(self, actor_name: str) -> bool:
        """Say whether a call of this actor's function is the message's own: the first one, and its actor's.

        Those that the function itself makes, of whichever actor, are plain calls inside of its scope.
        """
        if self._begun or actor_name != self.actor_name:
            return False
        self._begun = True
        return True

    def accept(self, request: AbortRequest, age: float | None) -> bool:
        """Take a request for this message, and say whether it changes anything.

        The grace period begins now, however long the request was on its way: that much time is the task's. A second
        request can only end it sooner, or say how often to interrupt. One to cancel the message counts if it was made
        before the start, ``age`` ms ago at the least, and came late.
        """
        now = time.monotonic()
        if request.mode is AbortMode.CANCEL and (age is None or now - age / 1000 >= self.started):
            return False
        self.repeat = request.repeat or self.repeat
        deadline = now + request.grace / 1000
        if self.request is not None and deadline >= self.deadline:
            return False
        self.request, self.deadline = request, deadline
        return True

    def retract(self) -> bool:
        """Forget the request, if nothing has been raised yet, and say whether there was one."""
        if self.request is None or not self.scope.withdraw():
            return False
        self.request = None
        return True

    def grace_left(self) -> float | None:
        """How many milliseconds the message may go on after a request to abort it; None without one."""
        return None if self.request is None else max(0.0, (self.deadline - time.monotonic()) * 1000)

    def interrupt(self) -> Answer:
        """Raise ``Abort`` in the message's function, if it is running and nothing is in the way.

        Once; or, if it is to be interrupted again, each time when that has been long enough ago.
        """
        now = time.monotonic()
        if self.repeat and self._raised_at is not None and now >= self._raised_at + self.repeat / 1000:
            self._raised_at = None if self.scope.rearm() else now
        answer = self.scope.interrupt(self.exception)
        if answer is Answer.RAISED and self._raised_at is None:
            self._raised_at = now
        return answer

    def check(self) -> None:
        """Raise ``Abort`` here if it is due, and as long as that has not been done.

        In its own scope by the rules of shields; in a thread or task that the function has started, each time.
        """
        if self.grace_left() != 0:
            return
        if not self.scope.is_here():
            raise self.exception
        with self.scope.shield():
            self.interrupt()

    def ring(self) -> None:
        """Wake those who wait until the message is to stop."""
        for ring in self._bells:
            ring()

    @contextmanager
    def bell(self, ring: Callable[[], object]) -> Iterator[None]:
        """Have this called, in another thread, when the message is to stop, and each time when that is tried again."""
        with _changing_bells:
            self._bells = (*self._bells, ring)
        try:
            yield
        finally:
            with _changing_bells:
                self._bells = tuple(bell for bell in self._bells if bell is not ring)

    def leave(self) -> bool:
        """Let the worker thread go on, if the coroutine that it waits for has had its time.

        To be called until the message is over. Says whether this was the first call that found the time over.
        """
        if self.waiting is None or self.cleanup_timeout is None or self._raised_at is None:
            return False
        if time.monotonic() < self._raised_at + self.cleanup_timeout / 1000:
            return False
        self.waiting.interrupt(Abort)  # once in all; but each time there can be something in the way
        is_first, self.is_left = not self.is_left, True
        return is_first


class RunningMessages(Collection[bytes]):
    """The table of them, and a collection of their keys that may be read while it changes."""

    # Every message comes and goes here, in many threads, and none waits for a lock: each operation on a dictionary is
    # one step, and nobody else removes the key of a message.

    def __init__(self) -> None:
        self._by_key: dict[bytes, Running] = {}
        #: Those of the same key as another, which the broker has delivered again.
        self._again: dict[Running, None] = {}

    def add(self, running: Running) -> None:
        if self._by_key.setdefault(running.key, running) is not running:
            self._again[running] = None

    def discard(self, running: Running) -> None:
        running.is_over = True
        if self._by_key.get(running.key) is running:
            del self._by_key[running.key]
        else:
            self._again.pop(running, None)

    def with_key(self, key: bytes) -> tuple[Running, ...]:
        first = self._by_key.get(key)
        again = tuple(running for running in list(self._again) if running.key == key)
        return again if first is None else (first, *again)

    def __contains__(self, key: object) -> bool:
        return key in self._by_key or any(running.key == key for running in list(self._again))

    def __iter__(self) -> Iterator[bytes]:
        return iter([*self._by_key, *(running.key for running in list(self._again))])

    def __len__(self) -> int:
        return len(self._by_key) + len(self._again)
