"""What every message goes through, in pure Python: the same names and rules as ``_passage.pxi``."""

from __future__ import annotations

import functools
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from contextvars import ContextVar

    from dramatiq import Broker, Message
    from dramatiq.broker import MessageProxy

    from ._running import AnyScope, Running, ThreadScope
    from .backend import EventBackend
    from .request import AbortRequest

__all__ = ["InScope", "Passage", "Taken"]

#: How many messages that have completed are kept in mind.
_MOST_COMPLETED: Final = 1000

#: A longer id is none that dramatiq makes, and is looked at more closely.
_LONGEST_USUAL_ID: Final = 100


class Taken:
    """What each message has that a worker thread has taken."""

    __slots__ = (
        "__dict__",
        "actor_name",
        "declined",
        "ended",
        "has_begun",
        "message",
        "processing",
        "request",
        "scope",
        "started",
    )

    #: What has taken it: the part of an ``Abortable`` that goes with its broker.
    processing: Rest

    def __init__(self, message: Message[Any], scope: AnyScope) -> None:
        self.message = message
        self.actor_name = message.actor_name
        self.scope = scope
        #: When its worker thread took it, in seconds on the monotonic clock; and when that was done with it.
        self.started = monotonic()
        self.ended: float | None = None
        #: The request to abort it, from the moment when this process hears of it.
        self.request: AbortRequest | None = None
        #: A request that came too late to cancel it: who has made it is told when it has completed.
        self.declined: AbortRequest | None = None
        #: Whether its function has been called.
        self.has_begun = False


class Rest(Protocol):
    """What a ``Passage`` leaves to somebody else."""

    def take_special(self, plain: Message[Any]) -> Running | None:
        """Take a message of which more must be known than that it is there; None: it cannot be aborted."""

    def ask(self, message: MessageProxy, running: Running) -> None:
        """Raise an exception if the message is not to start."""

    def note_failure(self, message: MessageProxy, running: Running | None, exception: BaseException) -> None:
        """Take down what came out of a message."""

    def note_skip(self, running: Running) -> None:
        """Take down that a message has not been started, whoever wanted that."""

    @property
    def broker(self) -> Broker:
        """The broker of its messages."""

    def option(self, actor_name: str, name: str) -> Any:
        """Return an option of an actor, or None."""

    def tags_of(self, message: Message[Any]) -> Collection[str]:
        """Return the tags of a message and its actor."""

    def tell_of(self, running: Running) -> None:
        """Tell those who are to hear of it what became of a message that somebody has asked to abort."""


class Passage:
    """Takes every message before its processing, and lets go of it afterwards: the hooks that dramatiq calls.

    Parameters:
      rest: Does what only some messages need.
      current: Is set to the message that this thread is processing.
      kind: The class of what is taken: a ``Taken``.
      new_scope: Makes the scope of each.
      special: The names of actors whose messages are taken by ``take_special``.
      are_all_special: Whether all messages are.
    """

    def __init__(
        self,
        rest: Rest,
        current: ContextVar[Running | None],
        kind: type[Running],
        new_scope: Callable[[], ThreadScope],
        *,
        special: set[str],
        are_all_special: bool,
    ) -> None:
        #: The messages that are being processed; and those with the id of another, which the broker delivered again.
        self.by_id: dict[str, Running] = {}
        self.again: dict[Running, None] = {}
        #: Says when there is nothing that a message would have to ask for; None: nobody is to be asked.
        self.backend: EventBackend | None = None
        self._rest = rest
        self._current = current
        self._kind = kind
        self._new_scope = new_scope
        self._special = special
        self._are_all_special = are_all_special
        #: The last ones that have completed: what ``completed`` returns of each.
        self._completed: deque[tuple[str, str, str, Any, float, float]] = deque(maxlen=_MOST_COMPLETED)

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        plain: Any = getattr(message, "_message", message)  # the proxy looks up what is asked of it anew, in a slow way
        message_id = plain.message_id
        if self._is_special(plain, message_id):
            taken = self._rest.take_special(plain)
            if taken is None:
                return
            running = taken
        else:
            running = self._kind(plain, self._new_scope())
        running.processing = self._rest
        # First the table, then the question: a request that is made in between is handed out by the watcher.
        if self.by_id.setdefault(message_id, running) is not running:
            self.again[running] = None
        self._current.set(running)
        if self.backend is not None and not running.started < self.backend.quiet_until:
            self._rest.ask(message, running)

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        running = self._current.get()
        if running is not None:
            self._current.set(None)
        has_completed = exception is None
        try:
            if exception is not None:
                self._rest.note_failure(message, running, exception)
            elif running is not None and not running.has_begun and getattr(message, "failed", False):
                # A hook has failed it without raising anything: dramatiq does not call its function then.
                has_completed = False
                self._rest.note_skip(running)
        finally:
            if running is not None:
                self._let_go(running, has_completed=has_completed)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        running = self._current.get()
        if running is not None:
            self._current.set(None)
            self._rest.note_skip(running)
            self._let_go(running, has_completed=False)

    def completed(self, message_id: str) -> tuple[str, str, str, Any, float, float] | None:
        """Return what is known of a message that has completed: what it was, and when it was made, began and ended."""
        return next((about for about in self._newest_first() if about[0] == message_id), None)

    def completed_ids(self) -> list[str]:
        """Return the ids of the last messages that have completed."""
        return [about[0] for about in self._newest_first()]

    def _newest_first(self) -> Iterator[tuple[str, str, str, Any, float, float]]:
        """Go through those that have completed; with those that are added meanwhile, some may come twice.

        By their places: without the GIL, a deque that is gone through, or copied, while it changes is an error.
        """
        for place in range(1, _MOST_COMPLETED + 1):
            try:
                yield self._completed[-place]
            except IndexError:  # also of the newest, while the oldest makes way for it
                if place > len(self._completed):
                    return

    def _is_special(self, plain: Message[Any], message_id: object) -> bool:
        if self._are_all_special or plain.actor_name in self._special:
            return True
        if "abortable" in plain.options:
            return True
        return type(message_id) is not str or not message_id.isascii() or not 0 < len(message_id) <= _LONGEST_USUAL_ID

    def _let_go(self, running: Running, *, has_completed: bool) -> None:
        running.ended = ended = monotonic()
        plain = running.message
        message_id = plain.message_id
        if has_completed:
            what = message_id, running.actor_name, plain.queue_name
            self._completed.append((*what, plain.message_timestamp, running.started, ended))
        if not self.again or self.by_id.get(message_id) is running:
            del self.by_id[message_id]
        else:
            self.again.pop(running, None)
        # Who hears of a request from now on sees that the message is over.
        if running.request is not None or running.declined is not None:
            self._rest.tell_of(running)


def InScope(  # noqa: N802 - a class in the compiled one
    function: Callable[..., Any],
    actor_name: str,
    current: ContextVar[Running | None],
    run: Callable[[Running, tuple[Any, ...], dict[str, Any]], Any] | None,
    failed: Callable[[Running, BaseException], None],
) -> Callable[..., Any]:
    """Wrap an actor's function: a call for a message runs in that message's scope, any other is a plain call.

    Parameters:
      function: The actor's.
      actor_name: The actor's.
      current: Says which message this thread is processing.
      run: Calls the function for a message, if that is not done by its scope alone.
      failed: Is told what came out instead of a result, and may raise something else.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        running = current.get()
        # Only the first call is the message's own, and only its actor's: those that the function itself makes, of
        # whichever actor, are plain calls inside of its scope.
        if running is None or running.has_begun or running.actor_name != actor_name:
            return function(*args, **kwargs)
        running.has_begun = True
        try:
            if run is not None:
                return run(running, args, kwargs)
            return running.scope.run(function, args, kwargs)
        except BaseException as error:
            failed(running, error)
            raise

    return call
