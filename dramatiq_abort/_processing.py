"""What only some messages need on a worker thread, from before their processing until after it."""

from __future__ import annotations

import threading
import time
import weakref
from itertools import dropwhile, islice
from typing import TYPE_CHECKING, Any, cast

from dramatiq.middleware import MiddlewareError
from dramatiq.threading import is_gevent_active

from . import _event_loop, _passage, interrupt
from . import _safe_points as safe_points
from ._actor import expect_abort
from ._current import current, processings
from ._running import Running
from ._running_messages import RunningMessages
from .errors import Abort, AbortedBeforeStart
from .outcome import OutcomeState
from .request import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from dramatiq import Broker, Message
    from dramatiq.broker import MessageProxy

    from ._broker_side import BrokerSide
    from ._running import ThreadScope
    from ._worker import WorkerSide

__all__ = ["Processing"]


class Processing:
    """What one ``Abortable`` does with the messages of one broker that this process runs."""

    def __init__(self, side: BrokerSide) -> None:
        self._side = side
        self._abortable = abortable = side.abortable
        for module in abortable.protect:
            safe_points.protect(module)
        _event_loop.install()
        #: Makes the scope of each message.
        self.new_scope: Callable[[], ThreadScope] = _scopes()
        #: What each of them goes through.
        self.passage: _passage.Passage = _passage.Passage(
            self,
            current,
            Running,
            self.new_scope,
            special=side.special_actors,
            are_all_special=abortable.must_be_asked,
        )
        # The last message of each thread that failed before it was taken.
        self._not_taken = threading.local()
        #: Those that are being processed.
        self.running: RunningMessages = RunningMessages(self.passage)
        #: What hears of requests, as long as a worker runs.
        self.worker_side: WorkerSide | None = None

    def watch(self, worker_side: WorkerSide | None) -> None:
        """Have messages ask this before they start, or nobody."""
        self.worker_side = worker_side
        self.passage.backend = None if worker_side is None else self._side.backend
        if worker_side is not None:
            processings.append(self)
        elif self in processings:
            processings.remove(self)

    @property
    def broker(self) -> Broker:
        return self._side.broker

    @property
    def cleanup_timeout(self) -> int | None:
        return self._abortable.cleanup_timeout

    def option(self, actor_name: str, name: str) -> Any:
        return self._side.option(actor_name, name)

    def tags_of(self, message: Message[Any]) -> Collection[str]:
        return self._side.tags_of(message)

    def take_special(self, plain: Message[Any]) -> Running | None:
        """Take a message whose options or id, or whose actor's, are not as usual."""
        abortable, actor = self._abortable, self._side.actor(plain.actor_name)
        # An actor that is not declared here has nothing to say, and the message will fail.
        wanted = plain.options.get("abortable") if actor is None else abortable.is_abortable(actor, plain)
        if not (abortable.abortable if wanted is None else wanted):
            return None
        try:
            key_of(plain.message_id)
        except (TypeError, ValueError):  # abort() would not take its id: what somebody else has enqueued may have any
            return None
        return Running(plain, self.new_scope())

    def ask(self, message: MessageProxy, running: Running) -> None:
        """Look for a request to abort a message that is to start.

        Raises:
          AbortedBeforeStart: When there is one.
          MiddlewareError: What another middleware raises that does not let the message start, either.
        """
        worker_side = self.worker_side
        if worker_side is not None and worker_side.skips(running):
            self._tell_those_behind(message)
            if self._abortable.fail_skipped:
                message.fail()
            raise AbortedBeforeStart(f"message {message.message_id} was aborted before its start{running.says}")

    def note_failure(self, message: MessageProxy, running: Running | None, exception: BaseException) -> None:
        if running is not None:
            running.fail(exception)
        else:
            self._not_taken.message = weakref.ref(message)
        if isinstance(exception, Abort):
            message.fail()  # as Retries does, where it is not in use
            expect_abort(_plain(message))  # it may not have come out of the actor's function

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        running = current.get()
        if running is not None and running.message is _plain(message):
            self.passage.after_skip_message(broker, message)
        else:  # by a middleware in front of this one
            self._tell_of_untaken(message)

    def after_nack(self, message: MessageProxy) -> None:
        failed = getattr(self._not_taken, "message", None)
        self._not_taken.message = None
        # Its actor is not known, or a middleware in front of this one has raised something.
        if message.actor_name not in self.broker.actors or (failed is not None and failed() is message):
            self._tell_of_untaken(message)

    def note_skip(self, running: Running) -> None:
        running.state = OutcomeState.SKIPPED

    def note_unseen(self, running: Running) -> None:
        self._abortable.warn_of_hidden_call(running.actor_name)

    def tell_of(self, running: Running) -> None:
        if self.worker_side is not None:
            self.worker_side.tell_of(running)

    def _tell_of_untaken(self, message: MessageProxy) -> None:
        """Report a message that ended before this middleware took it, if there is a request to abort it."""
        worker_side, backend = self.worker_side, self.passage.backend
        running = self.take_special(_plain(message))
        if running is None or worker_side is None or backend is None or running.started < backend.quiet_until:
            return
        running.processing = self
        if worker_side.skips(running):
            running.ended = time.monotonic()
            worker_side.tell_of(running)

    def _tell_those_behind(self, message: MessageProxy) -> None:
        """Have a message that is to be skipped pass the middleware behind this one, as if this stood last.

        dramatiq tells all of them that it was skipped, and one that keeps something from the message's start on, as
        Sentry's does (sentry_sdk/integrations/dramatiq.py), would have nothing then.
        """
        broker = self.broker
        behind = dropwhile(lambda middleware: middleware is not self._abortable, list(broker.middleware))
        for middleware in islice(behind, 1, None):
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
        from ._greenlets import Scope

        return Scope
    return interrupt.Scope
