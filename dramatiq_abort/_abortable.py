"""The middleware for the workers."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from dramatiq.logging import get_logger
from dramatiq.middleware import Middleware
from dramatiq.threading import is_gevent_active

from . import _safe_points as safe_points
from . import interrupt
from ._actor import in_scope, is_async, with_abort
from ._coroutines import Scope as CoroutineScope
from ._current import current
from ._running import Running
from ._running_messages import RunningMessages
from .backend import EventBackend
from .errors import Abort, AbortedBeforeStart, AsyncAbort, ConfigurationError, InvalidOption
from .outcome import OutcomeState
from .request import AbortRequest, key_of, milliseconds
from .rule import tags_of

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Collection, Iterable

    from dramatiq import Actor, Broker, Message, Worker
    from dramatiq.broker import MessageProxy

    from ._running import ThreadScope
    from ._worker import WorkerSide
    from .outcome import Outcome

__all__ = ["Abortable"]

#: The name of its logger, as in dramatiq-abort 1.2: for programs that say how much they want to hear of it.
_LOGGER: Final = "dramatiq_abort.middleware"


class Abortable(Middleware):
    """Makes the messages of a broker abortable.

    Add it to the broker of the workers and of those who call ``abort()``, anywhere in the list of middleware.

    Parameters:
      backend: Carries the requests. Without one, a ``RedisBroker``'s own client is used, and on a ``StubBroker`` a
        ``StubBackend``; any other broker needs one.
      abortable: Whether messages can be aborted. The actor's option of the same name goes before this one, and the
        message's before the actor's.
      abort_ttl: For how many milliseconds a request takes effect, unless ``abort()`` says otherwise.
      fail_skipped: What becomes of a message that is aborted before its start. dramatiq acknowledges what is skipped,
        and its result is None; with this it fails, as with ``AgeLimit``, and its result is ``AbortedBeforeStart``.
      protect: The names of modules, or of packages, in whose code ``Abort`` is never raised, for the whole process: a
        connection pool, say, or a driver. ``_safe_points.py`` has those of the standard library.
      repeat_every: After how many milliseconds ``Abort`` is raised again, and so on, in a function that has caught it
        and goes on. Without it, once: a function may take its time to clean up.
      cleanup_timeout: How many milliseconds a coroutine may take to clean up after its abort. Then it is cancelled once
        more, and its worker thread goes on without it a second later. None: as long as it takes. For async actors only:
        any other function is what the worker thread itself is doing.
      interrupt_blocking_calls: Whether an abort interrupts ``time.sleep``, a socket, and their like, from CPython 3.15
        on; see ``_blocking_calls.py`` for how, and which.
      report_after: How many milliseconds after its abort a message that is still running is reported in the log, once,
        with its stack. None: never.
      on_outcome: Called with the ``Outcome`` of each message that somebody has asked to abort, as soon as it is over,
        in whichever thread of the worker process that is known first: for metrics and traces. What it raises goes to
        the log, and nowhere else.

    Raises:
      TypeError: When the backend is no ``EventBackend``, a time is no integer, or ``protect`` is no list of names.
      ValueError: When a time is not positive.
      ConfigurationError: From the declaration of actors on, when the broker has two of these or needs a backend.
    """

    def __init__(
        self,
        *,
        backend: EventBackend | None = None,
        abortable: bool = True,
        abort_ttl: int = 90_000,
        fail_skipped: bool = False,
        protect: Iterable[str] = (),
        repeat_every: int | None = None,
        cleanup_timeout: int | None = None,
        interrupt_blocking_calls: bool = True,
        report_after: int | None = 10_000,
        on_outcome: Callable[[Outcome], object] | None = None,
    ) -> None:
        if backend is not None and not isinstance(backend, EventBackend):
            raise TypeError(f"the backend of Abortable is an EventBackend, not {backend!r}")
        modules = [] if isinstance(protect, str) else list(protect)
        if isinstance(protect, str) or not all(isinstance(module, str) for module in modules):
            raise TypeError(f"protect is a list of modules' names, not {protect!r}")
        for module in modules:
            safe_points.protect(module)
        self.logger: logging.Logger = get_logger(_LOGGER, type(self))
        self.abortable = abortable
        self.abort_ttl: int = milliseconds("abort_ttl", abort_ttl, at_least=1)
        self.fail_skipped = fail_skipped
        self.repeat_every: int | None = _milliseconds_or_none("repeat_every", repeat_every)
        self.interrupt_blocking_calls = interrupt_blocking_calls
        self.cleanup_timeout: int | None = _milliseconds_or_none("cleanup_timeout", cleanup_timeout)
        if not (on_outcome is None or callable(on_outcome)):
            raise TypeError(f"on_outcome is a function that is called with an Outcome, not {on_outcome!r}")
        self.on_outcome = on_outcome
        self.report_after: int | None = _milliseconds_or_none("report_after", report_after)
        self._backend = backend
        self._running = RunningMessages()
        self._new_scope = _scopes()
        self._async_actors: set[str] = set()
        self._tags: dict[str, tuple[str, ...]] = {}
        self._options: dict[str, dict[str, Any]] = {}
        self._worker_side: WorkerSide | None = None
        self._workers = 0

    @property
    def backend(self) -> EventBackend:
        """The event backend.

        Raises:
          ConfigurationError: When none was given and the middleware has not met its broker yet.
        """
        if self._backend is None:
            raise ConfigurationError("add the Abortable to its broker before it is used, or give it a backend")
        return self._backend

    @property
    def actor_options(self) -> set[str]:
        return {"abort_tags", "abortable", "on_abort"}

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        self.settle(broker)
        tags_of(actor.options.get("abort_tags"))

    def after_declare_actor(self, broker: Broker, actor: Actor[Any, Any] | str) -> None:
        self.settle(broker)
        if isinstance(actor, str):  # before dramatiq 2.0, for actors that were declared before the middleware was added
            actor = broker.get_actor(actor)
        self._tags[actor.actor_name] = tags_of(actor.options.get("abort_tags"))
        self._options[actor.actor_name] = actor.options
        if is_async(actor.fn):
            self._async_actors.add(actor.actor_name)
        actor.fn = in_scope(actor.fn, actor.actor_name, self.logger)
        actor.options["throws"] = with_abort(actor.options.get("throws") or ())

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        if "abort_tags" in message.options:
            tags_of(message.options["abort_tags"])

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        self.settle(broker)
        self._new_scope = _scopes()
        self._workers += 1
        if self._worker_side is None:
            from ._worker import WorkerSide

            self._worker_side = WorkerSide(self, broker, self._running, self._tags_of)
            self._worker_side.start()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        self._workers -= 1
        if self._worker_side is not None and not self._workers:
            self._worker_side.stop()
            self._worker_side = None

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        # Each message goes through here, and the proxy looks up what is asked of it anew, in a slow way.
        plain: Any = getattr(message, "_message", message)
        options, actor_name = plain.options, plain.actor_name
        wanted = options.get("abortable")
        if wanted is None:
            wanted = self._options.get(actor_name, {}).get("abortable")
        if not (self.abortable if wanted is None else wanted):
            return
        is_coroutine = actor_name in self._async_actors
        try:
            running = Running(plain, CoroutineScope() if is_coroutine else self._new_scope())
        except (TypeError, ValueError):  # abort() would not take its id: what somebody else has enqueued may have any
            return
        if is_coroutine:
            running.exception = AsyncAbort
            running.waiting = self._new_scope()
            running.cleanup_timeout = self.cleanup_timeout
        if self.repeat_every is not None:
            running.repeat = self.repeat_every
        if throws := options.get("throws"):  # goes before the actor's
            options["throws"] = with_abort(throws)
        # First the table, then the question: a request that is made in between is handed out by the watcher.
        self._running.add(running)
        current.set(running)
        worker_side = self._worker_side
        if worker_side is not None and worker_side.skips(running):
            if self.fail_skipped:
                message.fail()
            raise AbortedBeforeStart(f"message {message.message_id} was aborted before its start{running.says}")

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        running = current.get()
        if running is not None:
            current.set(None)
            if exception is not None:
                running.fail(exception)
            self._running.discard(running)
            # Who hears of a request from now on sees that the message is over.
            if self._worker_side is not None and (running.request is not None or running.declined is not None):
                self._worker_side.tell_of(running)
        if isinstance(exception, Abort):
            message.fail()  # as Retries does, where it is not in use

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        if (running := current.get()) is not None:
            running.state = OutcomeState.SKIPPED  # by whomever
        self.after_process_message(broker, message)

    def _tags_of(self, message: Message[Any]) -> Collection[str]:
        tags = self._tags.get(message.actor_name, ())
        with suppress(InvalidOption):  # what somebody else has enqueued may say anything
            tags += tags_of(message.options.get("abort_tags"))
        return tags

    def settle(self, broker: Broker) -> None:
        """Make sure that this is the broker's only one and has a backend.

        Raises:
          ConfigurationError: When it is not, or has none.
        """
        if sum(isinstance(middleware, Abortable) for middleware in broker.middleware) > 1:
            raise ConfigurationError("this broker has two Abortable middleware: add one")
        if self._backend is None:
            self._backend = _backend_of(broker)

    def requested(self, message_id: str) -> float | None:
        """What ``abort_requested()`` says of a message that need not be running here."""
        key = key_of(message_id)
        for running in self._running.with_key(key):
            return running.grace_left()
        event = self.backend.read(key)
        return None if event is None else float(AbortRequest.decode(event.value).grace_left(event.ttl))


def _scopes() -> Callable[[], ThreadScope]:
    """The kind of scope that goes with the worker threads: those of gevent are greenlets."""
    if is_gevent_active():
        from ._greenlets import Scope

        return Scope
    return interrupt.Scope


def _backend_of(broker: Broker) -> EventBackend:
    """Make the backend that goes with a broker."""
    client = getattr(broker, "client", None)  # a RedisBroker's, without importing it
    if hasattr(client, "execute_command"):
        from .backends.redis import RedisBackend

        return RedisBackend(client=client, namespace=f"{getattr(broker, 'namespace', 'dramatiq')}-abort")
    from dramatiq.brokers.stub import StubBroker

    if isinstance(broker, StubBroker):
        from .backends.stub import StubBackend

        return StubBackend()
    raise ConfigurationError(
        f"Abortable() cannot use a {type(broker).__name__} to carry its events: pass a backend, as in "
        "Abortable(backend=RedisBackend.from_url('redis://...'))"
    )


def _milliseconds_or_none(name: str, time: int | None) -> int | None:
    return None if time is None else milliseconds(name, time, at_least=1)
