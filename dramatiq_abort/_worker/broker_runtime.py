"""What only some messages need on a worker thread, from before their processing until after it."""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

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
    from .execution import ThreadScope
    from .runtime import WorkerRuntime
    from .settings import Settings

__all__ = ["BrokerRuntime"]


class BrokerRuntime:
    """What one ``Abortable`` does with the messages of one broker that this process runs."""

    def __init__(self, broker: Broker, backend: EventBackend, settings: Settings) -> None:
        self._broker = weakref.ref(broker)  # or a program that makes one broker after another would keep them all
        self._backend = backend
        self._settings = settings
        for module in settings.protected_modules:
            safe_points.protect(module)
        event_loop.install()
        self._slow_path_actors: set[str] = set()
        #: Makes the scope of each message.
        self.new_scope: Callable[[], ThreadScope] = _scopes()
        #: What each of them goes through.
        self.hooks: hooks.MessageHooks = hooks.MessageHooks(
            self,
            current,
            Execution,
            self.new_scope,
            slow_path_actors=self._slow_path_actors,
            all_need_slow_path=settings.must_be_asked,
        )
        # The last message of each thread that failed before it was taken.
        self._not_taken = threading.local()
        #: Those that are being processed.
        self.executions: ExecutionTable = ExecutionTable(self.hooks)
        #: What hears of requests, as long as a worker runs.
        self.worker_runtime: WorkerRuntime | None = None

    def watch(self, worker_runtime: WorkerRuntime | None) -> None:
        """Have messages ask this before they start, or nobody."""
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
            raise ReferenceError("this broker is gone")
        return broker

    @property
    def cleanup_timeout(self) -> int | None:
        return self._settings.cleanup_timeout

    def declare(self, name: str, actor: Actor[Any, Any]) -> None:
        """Take note of an actor, under one of its names: its own option goes before the settings."""
        if actor.options.get("abortable") is not None:
            self._slow_path_actors.add(name)

    def option(self, actor_name: str, name: str) -> Any:
        actor = self._actor(actor_name)
        return None if actor is None else actor.options.get(name)

    def tags_of(self, message: Message[Any]) -> Collection[str]:
        tags: tuple[str, ...] = ()
        for option in (self.option(message.actor_name, "abort_tags"), message.options.get("abort_tags")):
            with suppress(InvalidOption):  # what others have set or enqueued may be anything
                tags += tags_of(option)
        return tags

    def begin_slowly(self, plain: Message[Any]) -> Execution | None:
        """Take a message whose options or id, or whose actor's, are not as usual."""
        settings, actor = self._settings, self._actor(plain.actor_name)
        # An actor that is not declared here has nothing to say, and the message will fail.
        wanted = plain.options.get("abortable") if actor is None else settings.is_abortable(actor, plain)
        if not (settings.abortable if wanted is None else wanted):
            return None
        try:
            key_of(plain.message_id)
        except (TypeError, ValueError):  # abort() would not take its id: what somebody else has enqueued may have any
            return None
        return Execution(plain, self.new_scope())

    def ask(self, message: MessageProxy, execution: Execution) -> None:
        """Look for a request to abort a message that is to start.

        Raises:
          AbortedBeforeStart: When there is one.
          MiddlewareError: What another middleware raises that does not let the message start, either.
        """
        worker_runtime = self.worker_runtime
        if worker_runtime is not None and worker_runtime.skips(execution):
            self._tell_those_behind(message)
            if self._settings.fail_skipped:
                message.fail()
            raise AbortedBeforeStart(
                f"message {message.message_id} was aborted before its start{execution.attribution}"
            )

    def note_failure(self, message: MessageProxy, execution: Execution | None, exception: BaseException) -> None:
        if execution is not None:
            execution.fail(exception)
        else:
            self._not_taken.message = weakref.ref(message)
        if isinstance(exception, Abort):
            message.fail()  # as Retries does, where it is not in use
            expect_abort(_plain(message))  # it may not have come out of the actor's function

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        execution = current.get()
        if execution is not None and execution.message is _plain(message):
            self.hooks.after_skip_message(broker, message)
        else:  # by a middleware in front of this one
            self._tell_of_untaken(message)

    def after_nack(self, message: MessageProxy) -> None:
        failed = getattr(self._not_taken, "message", None)
        self._not_taken.message = None
        # Its actor is not known, or a middleware in front of this one has raised something.
        if message.actor_name not in self.broker.actors or (failed is not None and failed() is message):
            self._tell_of_untaken(message)

    def note_skip(self, execution: Execution) -> None:
        execution.state = OutcomeState.SKIPPED

    def note_unseen(self, execution: Execution) -> None:
        self._settings.warn_of_hidden_call(execution.actor_name)

    def tell_of(self, execution: Execution) -> None:
        if self.worker_runtime is not None:
            self.worker_runtime.tell_of(execution)

    def _actor(self, name: str) -> Actor[Any, Any] | None:
        broker = self._broker()
        return None if broker is None else broker.actors.get(name)

    def _tell_of_untaken(self, message: MessageProxy) -> None:
        """Report a message that ended before this middleware took it, if there is a request to abort it."""
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
            worker_runtime.tell_of(execution)

    def _tell_those_behind(self, message: MessageProxy) -> None:
        """Have a message that is to be skipped pass the middleware behind this one, as if this stood last.

        dramatiq tells all of them that it was skipped, and one that keeps something from the message's start on, as
        Sentry's does (sentry_sdk/integrations/dramatiq.py), would have nothing then.
        """
        broker = self.broker
        for middleware in self._settings.middleware_behind(broker):
            try:
                middleware.before_process_message(broker, message)
            except MiddlewareError:
                raise
            except Exception:  # as dramatiq does (dramatiq/broker.py)
                what = "Unexpected failure in before_process_message of %r."
                broker.logger.critical(what, middleware, exc_info=True)


def _plain(message: MessageProxy) -> Message[Any]:
    plain: Any = getattr(message, "_message", message)  # a third-party broker may pass the message itself
    return cast("Message[Any]", plain)


def _scopes() -> Callable[[], ThreadScope]:
    """The kind of scope that goes with the worker threads: those of gevent are greenlets."""
    if is_gevent_active():
        from .._core.greenlets import Scope

        return Scope
    return interrupt.Scope
