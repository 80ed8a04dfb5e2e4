"""One broker in a worker process, and the slow path of its messages."""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, cast

from dramatiq.middleware import MiddlewareError
from dramatiq.threading import is_gevent_active

from .. import interrupt
from .._core import safe_points
from .._core.current import current, tables
from .._protocol.outcome import OutcomeState
from .._protocol.request import key_of
from .._protocol.rule import tags_of
from ..errors import Abort, AbortedBeforeStart, InvalidOption
from . import event_loop, hooks
from .calls import expect_abort
from .execution import Execution
from .execution_table import ExecutionTable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from dramatiq import Actor, Broker, Message
    from dramatiq.broker import MessageProxy

    from ..backends.base import EventBackend
    from .hooks_py import ThreadScope
    from .settings import Settings

__all__ = ["BrokerRuntime"]


class RequestSource(Protocol):
    """What knows the requests, and is told the outcomes: ``runtime.py`` has the class."""

    @property
    def skips(self) -> Callable[[Execution], bool]:
        """Returns whether a message that is about to start must not."""

    def report_outcome(self, execution: Execution) -> None:
        """Report the outcome of a message that had an abort request."""


class BrokerRuntime:
    """One ``Abortable`` on one broker, in a process that runs messages.

    Creates the hooks of the messages and is their slow path: see ``SlowPath`` in ``hooks_py.py``.
    """

    def __init__(self, broker: Broker, backend: EventBackend, settings: Settings) -> None:
        # A weak reference, so that a program that creates one broker after another does not keep them all.
        self._broker = weakref.ref(broker)
        self._backend = backend
        self._settings = settings
        for module in settings.protected_modules:
            safe_points.protect(module)
        event_loop.install()
        self._slow_path_actors: set[str] = set()
        #: Creates the scope of a message.
        self.new_scope: Callable[[], ThreadScope] = _scopes()
        #: The hooks that dramatiq calls for every message.
        self.hooks: hooks.MessageHooks = hooks.MessageHooks(
            self,
            current,
            Execution,
            self.new_scope,
            slow_path_actors=self._slow_path_actors,
            all_need_slow_path=settings.must_be_asked,
        )
        # For each thread: the last message that failed before this middleware had an execution for it.
        self._failed_early = threading.local()
        #: The messages that are being processed.
        self.executions: ExecutionTable = ExecutionTable(self.hooks)
        #: Receives the requests, while a worker runs.
        self.worker_runtime: RequestSource | None = None

    def watch(self, worker_runtime: RequestSource | None) -> None:
        """Check for abort requests before each message starts; with None, stop doing so."""
        self.worker_runtime = worker_runtime
        self.hooks.backend = None if worker_runtime is None else self._backend
        if worker_runtime is not None:
            tables.append(self.executions.all)
        elif self.executions.all in tables:
            tables.remove(self.executions.all)

    @property
    def broker(self) -> Broker:
        broker = self._broker()
        if broker is None:
            raise ReferenceError("this broker has been garbage-collected")
        return broker

    @property
    def cleanup_timeout(self) -> int | None:
        return self._settings.cleanup_timeout

    def declare(self, name: str, actor: Actor[Any, Any]) -> None:
        """Register an actor under one of its names: messages take the slow path if it has the option ``abortable``."""
        if actor.options.get("abortable") is not None:
            self._slow_path_actors.add(name)

    def option(self, actor_name: str, name: str) -> Any:
        actor = self._actor(actor_name)
        return None if actor is None else actor.options.get(name)

    def tags_of(self, message: Message[Any]) -> Collection[str]:
        tags: tuple[str, ...] = ()
        for option in (self.option(message.actor_name, "abort_tags"), message.options.get("abort_tags")):
            with suppress(InvalidOption):  # other programs may have set or enqueued anything
                tags += tags_of(option)
        return tags

    def begin_slowly(self, plain: Message[Any]) -> Execution | None:
        """Return an execution for a message on the slow path, or None if the message cannot be aborted."""
        settings, actor = self._settings, self._actor(plain.actor_name)
        # Without a declared actor, only the message's option counts; the message will fail.
        wanted = plain.options.get("abortable") if actor is None else settings.is_abortable(actor, plain)
        if not (settings.abortable if wanted is None else wanted):
            return None
        try:
            key_of(plain.message_id)
        except (TypeError, ValueError):  # abort() rejects such an id, which only another program can have enqueued
            return None
        return Execution(plain, self.new_scope())

    def skip_if_requested(self, message: MessageProxy, execution: Execution) -> None:
        """Check for a request to abort a message that is about to start.

        Raises:
          AbortedBeforeStart: If the message has an abort request.
          MiddlewareError: If a later middleware prevents the message from starting as well.
        """
        worker_runtime = self.worker_runtime
        if worker_runtime is not None and worker_runtime.skips(execution):
            self._run_later_hooks(message)
            if self._settings.fail_skipped:
                message.fail()
            raise AbortedBeforeStart(
                f"message {message.message_id} was aborted before its start{execution.attribution}"
            )

    def note_failure(self, message: MessageProxy, execution: Execution | None, exception: BaseException) -> None:
        if execution is not None:
            execution.fail(exception)
        else:
            self._failed_early.message = weakref.ref(message)
        if isinstance(exception, Abort):
            message.fail()  # Retries would do this, but may not be in use
            expect_abort(_plain(message))  # the Abort may not come from the actor's function

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        execution = current.get()
        if execution is not None and execution.message is _plain(message):
            self.hooks.after_skip_message(broker, message)
        else:  # an earlier middleware has skipped it
            self._report_early_end(message)

    def after_nack(self, message: MessageProxy) -> None:
        failed = getattr(self._failed_early, "message", None)
        self._failed_early.message = None
        # Either its actor is unknown, or an earlier middleware has raised an exception.
        if message.actor_name not in self.broker.actors or (failed is not None and failed() is message):
            self._report_early_end(message)

    def note_skip(self, execution: Execution) -> None:
        execution.state = OutcomeState.SKIPPED

    def note_uncalled(self, execution: Execution) -> None:
        self._settings.warn_of_hidden_call(execution.actor_name)

    def report_outcome(self, execution: Execution) -> None:
        if self.worker_runtime is not None:
            self.worker_runtime.report_outcome(execution)

    def _actor(self, name: str) -> Actor[Any, Any] | None:
        broker = self._broker()
        return None if broker is None else broker.actors.get(name)

    def _report_early_end(self, message: MessageProxy) -> None:
        """Report a message that ended before it reached this middleware, if it has an abort request."""
        worker_runtime, backend = self.worker_runtime, self.hooks.backend
        execution = self.begin_slowly(_plain(message))
        if (
            execution is None
            or worker_runtime is None
            or backend is None
            or execution.started < backend.no_events_before
        ):
            return
        execution.runtime = self
        if worker_runtime.skips(execution):
            execution.ended = time.monotonic()
            worker_runtime.report_outcome(execution)

    def _run_later_hooks(self, message: MessageProxy) -> None:
        """Run ``before_process_message`` of the middleware after this one, for a message that is about to be skipped.

        dramatiq calls ``after_skip_message`` of all middleware. One that sets something up before the message, as
        Sentry's does (sentry_sdk/integrations/dramatiq.py), would not find it then. So this acts as the last one.
        """
        broker = self.broker
        for middleware in self._settings.middleware_behind(broker):
            try:
                middleware.before_process_message(broker, message)
            except MiddlewareError:
                raise
            except Exception:  # as dramatiq does (dramatiq/broker.py)
                broker.logger.critical("Unexpected failure in before_process_message of %r.", middleware, exc_info=True)


def _plain(message: MessageProxy) -> Message[Any]:
    plain: Any = getattr(message, "_message", message)  # a third-party broker may pass the message itself
    return cast("Message[Any]", plain)


def _scopes() -> Callable[[], ThreadScope]:
    """Return the scope class of the worker threads, which are greenlets under gevent."""
    if is_gevent_active():
        from .._core.greenlets import Scope

        return Scope
    return interrupt.Scope
