"""What every message goes through, in pure Python: the same names and rules as ``_worker/hooks.pxi``."""

from __future__ import annotations

import functools
import inspect
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from contextvars import ContextVar

    from dramatiq import Broker, Message
    from dramatiq.broker import MessageProxy

    from .._protocol.request import AbortRequest
    from ..backends.base import EventBackend
    from .execution import AnyScope, Execution, ThreadScope

__all__ = ["BaseExecution", "MessageHooks", "ScopedCall"]

#: How many messages that have completed are kept in mind.
_MOST_COMPLETED: Final = 1000

#: A longer id is none that dramatiq makes, and is looked at more closely.
_LONGEST_USUAL_ID: Final = 100


class BaseExecution:
    """What each message has that a worker thread has taken."""

    __slots__ = (
        "__dict__",
        "actor_name",
        "declined",
        "ended",
        "has_begun",
        "is_inside",
        "message",
        "outer",
        "processing",
        "proxy",
        "request",
        "scope",
        "started",
        "thread_id",
    )

    #: What has taken it: the part of an ``Abortable`` that goes with its broker.
    runtime: SlowPath
    #: The message as the broker's hooks have it, by which each of them knows its own.
    proxy: MessageProxy
    #: The message during which this one is processed, as with a broker that runs what it is sent at once; or None.
    outer: Execution | None
    #: The thread that processes it, or the greenlet.
    thread_id: int

    def __init__(self, message: Message[Any], scope: AnyScope) -> None:
        self.message: Message[Any] = message
        self.actor_name: str = message.actor_name
        #: Where it can be interrupted now.
        self.scope: AnyScope = scope
        #: When its worker thread took it, in seconds on the monotonic clock; and when that was done with it.
        self.started: float = monotonic()
        self.ended: float | None = None
        #: The request to abort it, from the moment when this process hears of it.
        self.request: AbortRequest | None = None
        #: A request that came too late to cancel it: who has made it is told when it has completed.
        self.declined: AbortRequest | None = None
        #: Whether a call of its function is at work.
        self.is_inside: bool = False
        #: Whether its function has been called.
        self.has_begun: bool = False


class SlowPath(Protocol):
    """What a ``Passage`` leaves to somebody else."""

    def begin_slowly(self, plain: Message[Any]) -> Execution | None:
        """Take a message of which more must be known than that it is there; None: it cannot be aborted."""

    def ask(self, message: MessageProxy, execution: Execution) -> None:
        """Raise an exception if the message is not to start."""

    def note_failure(self, message: MessageProxy, execution: Execution | None, exception: BaseException) -> None:
        """Take down what came out of a message."""

    def note_skip(self, execution: Execution) -> None:
        """Take down that a message has not been started, whoever wanted that."""

    #: Makes the scope of a message, or another one for it.
    new_scope: Callable[[], ThreadScope]

    @property
    def cleanup_timeout(self) -> int | None:
        """How many milliseconds a coroutine may take to clean up; None: as long as it takes."""

    @property
    def broker(self) -> Broker:
        """The broker of its messages."""

    def option(self, actor_name: str, name: str) -> Any:
        """Return an option of an actor, or None."""

    def tags_of(self, message: Message[Any]) -> Collection[str]:
        """Return the tags of a message and its actor."""

    def note_unseen(self, execution: Execution) -> None:
        """Take down that a message has completed without a call of its function that could have been aborted."""

    def tell_of(self, execution: Execution) -> None:
        """Tell those who are to hear of it what became of a message that somebody has asked to abort."""


class Calls(Protocol):
    """What an ``InScope`` leaves to somebody else."""

    def message_of(self, function: Callable[..., Any], execution: Execution | None) -> Execution | None:
        """Return the message whose call this is; None: it is nobody's, and a plain call.

        Parameters:
          function: What is called.
          running: What is current here. It has begun, or is of another actor.
        """

    def failed(self, execution: Execution, error: BaseException) -> None:
        """Take what came out instead of a result, and perhaps raise something else."""


class MessageHooks:
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
        slow_path: SlowPath,
        current: ContextVar[Execution | None],
        kind: type[Execution],
        new_scope: Callable[[], ThreadScope],
        *,
        slow_path_actors: set[str],
        all_need_slow_path: bool,
    ) -> None:
        #: The messages that are being processed; and those with the id of another, which the broker delivered again.
        self.by_id: dict[str, Execution] = {}
        self.redelivered: dict[Execution, None] = {}
        #: Says when there is nothing that a message would have to ask for; None: nobody is to be asked.
        self.backend: EventBackend | None = None
        self._slow_path = slow_path
        self._current = current
        self._kind = kind
        self._new_scope = new_scope
        self._slow_path_actors = slow_path_actors
        self._all_need_slow_path = all_need_slow_path
        #: The last ones that have completed: what ``completed`` returns of each.
        self._completed: deque[tuple[str, str, str, Any, float, float]] = deque(maxlen=_MOST_COMPLETED)

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        plain: Any = getattr(message, "_message", message)  # the proxy looks up what is asked of it anew, in a slow way
        message_id = plain.message_id
        if self._needs_slow_path(plain, message_id):
            taken = self._slow_path.begin_slowly(plain)
            if taken is None:
                return
            execution = taken
        else:
            execution = self._kind(plain, self._new_scope())
        execution.runtime = self._slow_path
        execution.proxy = message
        execution.outer = self._current.get()
        execution.thread_id = threading.get_ident()
        # First the table, then the question: a request that is made in between is handed out by the watcher.
        if self.by_id.setdefault(message_id, execution) is not execution:
            self.redelivered[execution] = None
        self._current.set(execution)
        if self.backend is not None and not execution.started < self.backend.no_events_before:
            self._slow_path.ask(message, execution)

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        execution = self._leave(message)
        has_completed = exception is None
        try:
            if exception is not None:
                self._slow_path.note_failure(message, execution, exception)
            elif execution is not None and not execution.has_begun:
                # A hook may have failed it without raising anything: dramatiq does not call its function then.
                has_completed = not getattr(message, "failed", False)
                if has_completed:
                    self._slow_path.note_unseen(execution)
                else:
                    self._slow_path.note_skip(execution)
        finally:
            if execution is not None:
                self._finish(execution, has_completed=has_completed)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        execution = self._leave(message)
        if execution is not None:
            self._slow_path.note_skip(execution)
            self._finish(execution, has_completed=False)

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

    def _needs_slow_path(self, plain: Message[Any], message_id: object) -> bool:
        if self._all_need_slow_path or plain.actor_name in self._slow_path_actors:
            return True
        if "abortable" in plain.options:
            return True
        return type(message_id) is not str or not message_id.isascii() or not 0 < len(message_id) <= _LONGEST_USUAL_ID

    def _leave(self, message: MessageProxy) -> Execution | None:
        """Return what was taken for this message, if it was, and let the one around it be the current one again."""
        execution = self._current.get()
        # Not all messages are taken, and hooks are called for those that another middleware has refused, too.
        if execution is not None and execution.proxy is not message:
            execution = self._unwind(execution, message)
        if execution is not None:
            outer = execution.outer
            while outer is not None and outer.ended is not None:  # in a thread that it has started, with its context
                outer = outer.outer
            self._current.set(outer)
        return execution

    def _unwind(self, innermost: Execution, message: MessageProxy) -> Execution | None:
        """Find what was taken for a message, and let go of those inside of it whose processing broke off."""
        plain: Any = getattr(message, "_message", message)
        execution: Execution | None = innermost
        while execution is not None and not (execution.proxy is message or execution.message is plain):
            execution = execution.outer
        broken_off: Execution | None = None if execution is None else innermost
        while broken_off is not None and broken_off is not execution:
            self._finish(broken_off, has_completed=False)
            broken_off = broken_off.outer
        return execution

    def _finish(self, execution: Execution, *, has_completed: bool) -> None:
        execution.ended = ended = monotonic()
        plain = execution.message
        message_id = plain.message_id
        if has_completed:
            what = message_id, execution.actor_name, plain.queue_name
            self._completed.append((*what, plain.message_timestamp, execution.started, ended))
        if not self.redelivered or self.by_id.get(message_id) is execution:
            del self.by_id[message_id]
        else:
            self.redelivered.pop(execution, None)
        # Who hears of a request from now on sees that the message is over.
        if execution.request is not None or execution.declined is not None:
            self._slow_path.tell_of(execution)


class ScopedCall:
    """An actor's function: a call for a message runs in that message's scope, any other is a plain call.

    Only the message's own call does: those that the function itself makes, of whichever actor, are plain calls inside
    of its scope.

    Parameters:
      function: The actor's.
      actor_name: The actor's.
      current: Says which message this thread is processing.
      calls: Decides about calls that are not plainly the message's first, and takes what came out instead of a result.
    """

    def __init__(
        self, function: Callable[..., Any], actor_name: str, current: ContextVar[Execution | None], calls: Calls
    ) -> None:
        self._function = function
        self._actor_name = actor_name
        self._current = current
        self._calls = calls
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        before = execution = self._current.get()
        if execution is None or execution.has_begun or execution.actor_name != self._actor_name:
            if execution is not None and execution.is_inside:
                return self._function(*args, **kwargs)
            execution = self._calls.message_of(self._function, execution)
            if execution is None:
                return self._function(*args, **kwargs)
            self._current.set(execution)
        execution.has_begun = execution.is_inside = True
        try:
            return execution.scope.run(self._function, args, kwargs)
        except BaseException as error:
            self._calls.failed(execution, error)
            raise
        finally:
            execution.is_inside = False
            if execution is not before:
                self._current.set(before)

    @property
    def __signature__(self) -> inspect.Signature:
        """What it looks like to those who do not follow ``__wrapped__``, as ``inspect.getfullargspec`` does not."""
        return inspect.signature(self._function)

    def __repr__(self) -> str:
        return repr(self._function)
