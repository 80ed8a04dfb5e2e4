"""The middleware for the workers."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from dramatiq.logging import get_logger
from dramatiq.middleware import Middleware

from ._actor import in_scope, is_async, until_needed, with_abort
from ._current import current
from ._requests import asking, requests_of
from .backend import EventBackend
from .errors import ConfigurationError, InvalidOption
from .request import AbortMode, AbortRequest, key_of, milliseconds
from .rule import tags_of

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Collection, Iterable

    from dramatiq import Actor, Broker, Message, Worker
    from dramatiq.broker import MessageProxy

    from ._processing import Processing
    from ._targets import Targets
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
        self.protect: list[str] = modules
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
        self._tags: dict[str, tuple[str, ...]] = {}
        # The options of the actors, and which of them are coroutines.
        self.options: dict[str, dict[str, Any]] = {}
        self.async_actors: set[str] = set()
        #: The names of those of which a message must know more than that.
        self.special_actors: set[str] = set()
        # Those whose functions have not been put into their scopes yet.
        self._declared: list[tuple[Actor[Any, Any], Callable[..., Any], Callable[[], Callable[..., Any]]]] = []
        # Of a process that has workers: any other need not import what goes with it.
        self._processing: Processing | None = None
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

    def abort(
        self,
        message_id: Targets,
        abort_ttl: int | None = None,
        mode: AbortMode = AbortMode.ABORT,
        abort_timeout: int = 0,
    ) -> None:
        """Abort a message, or many: the function ``abort()``, with this middleware.

        Parameters and errors are those of the function, which has more of them.
        """
        requests = requests_of(
            message_id,
            mode=mode,
            abort_timeout=abort_timeout,
            abort_ttl=abort_ttl,
            repeat_every=None,
            reason=None,
            by=None,
        )
        requests.make(self.backend, self.abort_ttl)

    def get_abort_request(self, message_id: str | None = None) -> float | None:
        """Say whether a message is to be aborted: the function ``abort_requested()``, with this middleware."""
        if message_id is None:
            running = current.get()
            return None if running is None else running.grace_left()
        key = key_of(message_id)
        if self._processing is not None:
            for running in self._processing.running.with_key(key):
                return running.grace_left()
        with asking(f"nothing is known of message {message_id}"):
            event = self.backend.read(key)
            return None if event is None else float(AbortRequest.decode(event.value).grace_left(event.ttl))

    def is_abortable(self, actor: Actor[Any, Any], message: Message[Any]) -> bool:
        """Say whether a message can be aborted.

        Its own option ``abortable`` goes before its actor's, and that before this middleware's; None says nothing.
        """
        wanted = message.options.get("abortable")
        if wanted is None:
            wanted = actor.options.get("abortable")
        return self.abortable if wanted is None else bool(wanted)

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
        self.options[actor.actor_name] = actor.options
        if is_async(actor.fn):
            self.async_actors.add(actor.actor_name)
        if actor.actor_name in self.async_actors or actor.options.get("abortable") is not None:
            self.special_actors.add(actor.actor_name)
        fn = actor.fn
        actor.fn, made = until_needed(fn, lambda: in_scope(fn, actor.actor_name, self.logger))
        self._declared.append((actor, actor.fn, made))
        if self._processing is not None:
            self._enclose()
        actor.options["throws"] = with_abort(actor.options.get("throws") or ())

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        if "abort_tags" in message.options:
            tags_of(message.options["abort_tags"])

    def after_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        if self._processing is not None:
            self._processing.follow()

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        self.settle(broker)
        try:
            from ._processing import Processing
            from ._worker import WorkerSide
        except Exception as error:  # dramatiq would log it, and run messages that nobody can abort
            raise ConfigurationError(f"this worker cannot interrupt messages: {error}") from error

        processing = self._processing
        if processing is None:
            self._processing = processing = Processing(self)
            self._hand_over(processing)
        self._enclose()
        self._workers += 1
        if processing.worker_side is None:
            worker_side = WorkerSide(self, broker, processing.running, self._tags_of)
            processing.watch(worker_side)
            worker_side.start()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        self._workers -= 1
        if self._processing is not None and self._processing.worker_side is not None and not self._workers:
            self._processing.worker_side.stop()
            self._processing.watch(None)

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if self._processing is not None:
            self._processing.passage.before_process_message(broker, message)

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        if self._processing is not None:
            self._processing.passage.after_process_message(broker, message, result=result, exception=exception)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        if self._processing is not None:
            self._processing.passage.after_skip_message(broker, message)

    def _enclose(self) -> None:
        """Give all actors what has been stood for, since messages run here: but for what somebody has wrapped since."""
        declared, self._declared = self._declared, []
        for actor, stands_for_it, made in declared:
            if actor.fn is stands_for_it:
                actor.fn = made()

    def _hand_over(self, processing: Processing) -> None:
        """Have dramatiq call the hooks of all messages where they lead to, but for those that somebody else has."""
        for name in ("before_process_message", "after_process_message"):
            if getattr(type(self), name) is getattr(Abortable, name) and name not in vars(self):
                setattr(self, name, getattr(processing.passage, name))

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
