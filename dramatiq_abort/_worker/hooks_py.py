"""The hooks of every message in pure Python, with the same names and rules as ``_worker/hooks.pxi``."""

from __future__ import annotations

import functools
import inspect
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from contextvars import ContextVar

    from dramatiq import Broker, Message
    from dramatiq.broker import MessageProxy

    from .. import interrupt
    from .._core import coroutines, greenlets
    from .._protocol.request import AbortRequest
    from ..backends.base import EventBackend

    #: The scope of a worker thread, which may be a greenlet.
    ThreadScope: TypeAlias = interrupt.Scope | greenlets.Scope
    AnyScope: TypeAlias = ThreadScope | coroutines.Scope
    #: An instance of the class that ``MessageHooks`` is given: ``execution.py`` has it, and subclasses the one below.
    Execution: TypeAlias = Any

__all__ = ["BaseExecution", "MessageHooks", "ScopedCall"]

#: How many completed messages are remembered.
_MOST_COMPLETED: Final = 1000

#: Longer ids, which dramatiq does not generate, take the slow path.
_LONGEST_USUAL_ID: Final = 100


class BaseExecution:
    """The attributes of every execution."""

    __slots__ = (
        "__dict__",
        "actor_name",
        "declined",
        "ended",
        "has_begun",
        "is_inside",
        "message",
        "outer",
        "proxy",
        "request",
        "runtime",
        "scope",
        "started",
        "thread_id",
    )

    #: The slow path of its hooks, which is the ``BrokerRuntime``.
    runtime: SlowPath
    #: The message as dramatiq passes it to the hooks, which find the execution by it.
    proxy: MessageProxy
    #: The execution during which this one takes place, as with a broker that processes each message when it is sent.
    outer: Execution | None
    #: The thread, or greenlet, that processes it.
    thread_id: int

    def __init__(self, message: Message[Any], scope: AnyScope) -> None:
        self.message: Message[Any] = message
        self.actor_name: str = message.actor_name
        #: The scope in which it can be interrupted now.
        self.scope: AnyScope = scope
        #: When its worker thread started and finished processing it, in seconds on the monotonic clock.
        self.started: float = monotonic()
        self.ended: float | None = None
        #: The request to abort it, once this process has received it.
        self.request: AbortRequest | None = None
        #: A request to cancel it that came too late. Its caller receives the outcome when the message has completed.
        self.declined: AbortRequest | None = None
        #: Whether a call of its function is running.
        self.is_inside: bool = False
        #: Whether its function has been called.
        self.has_begun: bool = False


class SlowPath(Protocol):
    """The slow path of ``MessageHooks``: the cases that only some messages need."""

    def begin_slowly(self, plain: Message[Any]) -> Execution | None:
        """Return an execution for a message on the slow path, or None if the message cannot be aborted."""

    def skip_if_requested(self, message: MessageProxy, execution: Execution) -> None:
        """Raise an exception if the message must not start because it has an abort request."""

    def note_failure(self, message: MessageProxy, execution: Execution | None, exception: BaseException) -> None:
        """Record the exception with which a message ended."""

    def note_skip(self, execution: Execution) -> None:
        """Record that a message has not been started, for whatever reason."""

    #: Creates the scope of a message, or a further one.
    new_scope: Callable[[], ThreadScope]

    @property
    def cleanup_timeout(self) -> int | None:
        """How many milliseconds a coroutine may take to clean up, or None for no limit."""

    @property
    def broker(self) -> Broker:
        """The broker of the messages."""

    def option(self, actor_name: str, name: str) -> Any:
        """Return an option of an actor, or None."""

    def tags_of(self, message: Message[Any]) -> Collection[str]:
        """Return the tags of a message and its actor."""

    def note_uncalled(self, execution: Execution) -> None:
        """Record that a message has completed although its scoped function was not called."""

    def report_outcome(self, execution: Execution) -> None:
        """Report the outcome of a message that had an abort request."""


class Calls(Protocol):
    """The less usual calls of a ``ScopedCall``, and its exceptions."""

    def message_of(self, function: Callable[..., Any], execution: Execution | None) -> Execution | None:
        """Return the execution to which a call belongs, or None for a plain call.

        Parameters:
          function: The function that is called.
          execution: The current execution, if any: its function has been called before, or is another actor's.
        """

    def failed(self, execution: Execution, error: BaseException) -> None:
        """Handle the exception that the function raised. May raise another one in its place."""


class MessageHooks:
    """The hooks that dramatiq calls before and after it processes a message.

    They keep the table of running messages and remember the last that have completed.

    Parameters:
      slow_path: Handles the cases that only some messages need.
      current: The context variable that is set to the execution that takes place in this thread.
      kind: The class of executions, a subclass of ``BaseExecution``.
      new_scope: Creates the scope of a message.
      slow_path_actors: Names of the actors whose messages take the slow path.
      all_need_slow_path: Whether all messages take the slow path.
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
        #: The messages that are being processed; and further deliveries of the same messages.
        self.by_id: dict[str, Execution] = {}
        self.redelivered: dict[Execution, None] = {}
        #: A message checks for abort requests unless this backend's ``no_events_before`` is later; None: no checks.
        self.backend: EventBackend | None = None
        self._slow_path = slow_path
        self._current = current
        self._kind = kind
        self._new_scope = new_scope
        self._slow_path_actors = slow_path_actors
        self._all_need_slow_path = all_need_slow_path
        #: The last completed messages, as ``completed`` returns them.
        self._completed: deque[tuple[str, str, str, Any, float, float]] = deque(maxlen=_MOST_COMPLETED)

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        plain: Any = getattr(message, "_message", message)  # the proxy's own attribute look-up is slow
        message_id = plain.message_id
        if self._needs_slow_path(plain, message_id):
            slow = self._slow_path.begin_slowly(plain)
            if slow is None:
                return
            execution = slow
        else:
            execution = self._kind(plain, self._new_scope())
        execution.runtime = self._slow_path
        execution.proxy = message
        execution.outer = self._current.get()
        execution.thread_id = threading.get_ident()
        # First the table, then the check: the watcher hands out a request that is made in between.
        if self.by_id.setdefault(message_id, execution) is not execution:
            self.redelivered[execution] = None
        self._current.set(execution)
        if self.backend is not None and not execution.started < self.backend.no_events_before:
            self._slow_path.skip_if_requested(message, execution)

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
                # A hook may have failed the message without raising an exception: dramatiq then skips its function.
                has_completed = not getattr(message, "failed", False)
                if has_completed:
                    self._slow_path.note_uncalled(execution)
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
        """Return a remembered message: its id, actor and queue, and when it was enqueued, started and ended."""
        return next((about for about in self._newest_first() if about[0] == message_id), None)

    def completed_ids(self) -> list[str]:
        """Return the ids of the remembered messages, the newest first."""
        return [about[0] for about in self._newest_first()]

    def _newest_first(self) -> Iterator[tuple[str, str, str, Any, float, float]]:
        """Iterate over the remembered messages. Some may come twice if others are added meanwhile.

        Uses indices: without the GIL, iterating over a deque that changes, or copying it, raises an exception.
        """
        for place in range(1, _MOST_COMPLETED + 1):
            try:
                yield self._completed[-place]
            except IndexError:  # also for a short time while a new message replaces the oldest
                if place > len(self._completed):
                    return

    def _needs_slow_path(self, plain: Message[Any], message_id: object) -> bool:
        if self._all_need_slow_path or plain.actor_name in self._slow_path_actors:
            return True
        if "abortable" in plain.options:
            return True
        return type(message_id) is not str or not message_id.isascii() or not 0 < len(message_id) <= _LONGEST_USUAL_ID

    def _leave(self, message: MessageProxy) -> Execution | None:
        """Return the execution of a message, if it has one, and make the outer execution current again."""
        execution = self._current.get()
        # Some messages have no execution, and hooks are also called for messages that other middleware has rejected.
        if execution is not None and execution.proxy is not message:
            execution = self._unwind(execution, message)
        if execution is not None:
            outer = execution.outer
            while outer is not None and outer.ended is not None:  # this thread was started with its context
                outer = outer.outer
            self._current.set(outer)
        return execution

    def _unwind(self, innermost: Execution, message: MessageProxy) -> Execution | None:
        """Return the execution of a message, and finish inner executions whose processing was broken off."""
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
            names = message_id, execution.actor_name, plain.queue_name
            self._completed.append((*names, plain.message_timestamp, execution.started, ended))
        if not self.redelivered or self.by_id.get(message_id) is execution:
            del self.by_id[message_id]
        else:
            self.redelivered.pop(execution, None)
        # A request that arrives from now on finds the message over.
        if execution.request is not None or execution.declined is not None:
            self._slow_path.report_outcome(execution)


class ScopedCall:
    """An actor's function: the call for a message runs in that message's scope, any other is a plain call.

    Calls that the function itself makes, of any actor, are plain calls inside its scope.

    Parameters:
      function: The actor's function.
      actor_name: The actor's name.
      current: The context variable with the execution that takes place in this thread.
      calls: Decides about every call that is not clearly the first one for the message, and handles exceptions.
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
        """The function's signature, for callers that ignore ``__wrapped__``, such as ``inspect.getfullargspec``."""
        return inspect.signature(self._function)

    def __repr__(self) -> str:
        return repr(self._function)
