"""The middleware for the workers, and the functions for everybody else."""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dramatiq import get_broker
from dramatiq.brokers.stub import StubBroker
from dramatiq.logging import get_logger
from dramatiq.middleware import Middleware
from dramatiq.threading import is_gevent_active

from . import _blocking_calls as blocking_calls
from . import _safe_points as safe_points
from . import interrupt
from ._actor import in_scope, is_async, with_abort
from ._audience import Audience
from ._coroutines import Scope as CoroutineScope
from ._current import current
from ._metrics import Metrics, is_wanted
from ._roll_call import worker_name
from ._running import Running, RunningMessages
from ._targets import targets_of
from ._watcher import Watcher
from .backend import MOST_EVENTS, Event, EventBackend
from .errors import Abort, AbortedBeforeStart, AbortError, AsyncAbort, BackendError, ConfigurationError, InvalidOption
from .outcome import OutcomeState
from .request import MAX_TIME, AbortMode, AbortRequest, key_of, milliseconds, text
from .rule import Rule, is_rule, rule_key, tags_of

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Collection, Iterable, Iterator

    from dramatiq import Actor, Broker, Message, Worker
    from dramatiq.broker import MessageProxy

    from ._running import ThreadScope
    from ._shield import AnyShield
    from ._targets import Target, Targets
    from .outcome import Outcome

__all__ = ["Abort", "AbortMode", "Abortable", "abort", "abort_requested", "restore", "shield"]


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
        self.logger: logging.Logger = get_logger(__name__, type(self))
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
        self._watcher: Watcher | None = None
        self._workers = 0
        self._has_signal = False

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
        if is_async(actor.fn):
            self._async_actors.add(actor.actor_name)
        actor.fn = in_scope(actor.fn, actor.actor_name, self.logger)
        actor.options["throws"] = with_abort(actor.options.get("throws") or ())

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        tags_of(message.options.get("abort_tags"))

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        self.settle(broker)
        self._new_scope = _scopes()
        if not (interrupt.SUPPORTED or is_gevent_active()):
            self.logger.warning(
                "This interpreter cannot interrupt a thread: messages that wait are skipped, but one that is running "
                "ends only if its function asks abort_requested()."
            )
        self._workers += 1
        if self._watcher is None:
            self._watcher = Watcher(
                self.backend,
                self._running,
                self.logger,
                self.report_after,
                tags_of=self._tags_of,
                on_outcome=self._audience(broker),
            )
            self._watcher.start()
            if self.interrupt_blocking_calls and blocking_calls.SUPPORTED and not is_gevent_active():
                self._has_signal = blocking_calls.install()
                if not self._has_signal:
                    self.logger.info(
                        "Blocking calls are not interrupted: this program handles SIGURG itself, or starts its worker "
                        "in another thread than the main one."
                    )

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        self._workers -= 1
        if self._watcher is not None and not self._workers:
            self._watcher.stop()
            self._watcher = None
            if self._has_signal:
                blocking_calls.remove()
                self._has_signal = False

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        # Each message goes through here, and the proxy looks up what is asked of it anew, in a slow way.
        plain: Any = getattr(message, "_message", message)
        options, actor_name = plain.options, plain.actor_name
        wanted = options.get("abortable")
        if wanted is None:
            wanted = broker.get_actor(actor_name).options.get("abortable")
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
        watcher = self._watcher
        if watcher is not None and watcher.skips(running):
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
            if running.request is not None or running.declined is not None:
                self._tell_of(running, broker)
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

    def _tell_of(self, running: Running, broker: Broker) -> None:
        if self._watcher is not None and running.is_awaited:
            self._watcher.report(running)
        if running.state in {OutcomeState.SKIPPED, OutcomeState.ABORTED}:
            self._call_back(running, broker)

    def _audience(self, broker: Broker) -> Audience:
        listeners: list[Callable[[Outcome], object]] = [Metrics().observe] if is_wanted(broker) else []
        if self.on_outcome is not None:
            listeners.append(self.on_outcome)
        return Audience(self.logger, *listeners)

    def _call_back(self, running: Running, broker: Broker) -> None:
        message = running.message
        try:
            name = message.options.get("on_abort") or broker.get_actor(message.actor_name).options.get("on_abort")
            if name:
                broker.get_actor(name).send(message.asdict(), running.outcome(worker_name()).asdict())
        except Exception:
            what = "The on_abort of message %s could not be sent."
            self.logger.exception(what, message.message_id, extra=running.fields())

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


def abort(
    message_id: Targets,
    middleware: Abortable | None = None,
    abort_ttl: int | None = None,
    mode: AbortMode = AbortMode.ABORT,
    abort_timeout: int = 0,
    *,
    repeat_every: int | None = None,
    reason: str | None = None,
    by: str | None = None,
) -> None:
    """Abort a message, or many, on whichever worker they wait or run.

    When this returns, the request has been made, not yet carried out: a message that waits will be skipped, and one
    that runs has ``Abort`` raised in its actor's function. One that has finished is not touched.

    Parameters:
      message_id: As in ``message.message_id``; or the message, a group, a pipeline, or an iterable of those. Many are
        one round trip for a hundred.
      middleware: The ``Abortable`` of the message's broker; without it, the default broker's.
      abort_ttl: For how many milliseconds the request takes effect; without it, the middleware's. A message that is
        delayed for longer, or waits for longer, runs. Where a message itself is given, or what has it in it, and it is
        delayed, its delay comes on top, as this machine's clock has it.
      mode: With ``AbortMode.CANCEL`` a message that is running is left alone.
      abort_timeout: For how many milliseconds a running message may go on, and finish by itself. In that time
        ``abort_requested()`` tells it how many are left.
      repeat_every: After how many milliseconds ``Abort`` is raised again, and so on, in a function that has caught it
        and goes on; without it, as the worker's ``Abortable`` says. A second call may say so of an abort under way.
      reason: Why, in up to 256 characters: for the exception, the log, and the failure in the result backend. Of
        several calls, what the one says that takes effect.
      by: Who asks, the same.

    Raises:
      TypeError: When a parameter is of another type than these. Nothing has been aborted then.
      ValueError: When a message id is empty or too long, or a time is negative or too long. The same.
      ConfigurationError: A ``RuntimeError``: when no ``Abortable`` is to be found.
      BackendError: When the event backend did not take the request. Its own error is the cause; ``made`` says how many
        it did take.
      UnsupportedByBackend: When the event backend can do no more than a plain abort, and this is more.
    """
    if abort_ttl is not None:
        milliseconds("abort_ttl", abort_ttl, at_least=1)
    asked = request_of(
        mode=mode, abort_timeout=abort_timeout, abort_ttl=abort_ttl, repeat_every=repeat_every, reason=reason, by=by
    )
    targets = list(targets_of(message_id))
    keys = [key_of(target.message_id) for target in targets]
    middleware = found(middleware)
    ttl = middleware.abort_ttl if abort_ttl is None else abort_ttl
    now = time.time() * 1000
    events = []
    for target, key in zip(targets, keys, strict=True):
        delay = 0 if target.eta is None else max(0, int(target.eta - now))
        request = replace(asked, ttl=min(ttl + delay, MAX_TIME))
        events.append(Event(key, request.encode(), request.ttl, request.priority))
    made = 0
    try:
        while step := events[made : made + MOST_EVENTS]:
            middleware.backend.signal(step)
            made += len(step)
    except AbortError:
        raise
    except Exception as error:
        raise _not_aborted(targets, made, error) from error


def request_of(
    *,
    mode: AbortMode,
    abort_timeout: int,
    abort_ttl: int | None,
    repeat_every: int | None,
    reason: str | None,
    by: str | None,
) -> AbortRequest:
    """Make a request of what ``abort()`` has been given.

    Raises:
      TypeError, ValueError: As there.
    """
    if not isinstance(mode, AbortMode):
        raise TypeError(f"mode is an AbortMode, as in AbortMode.CANCEL, not {mode!r}")
    grace = milliseconds("abort_timeout", abort_timeout, at_least=0)
    if repeat_every is not None:
        milliseconds("repeat_every", repeat_every, at_least=1)
    return AbortRequest(mode, grace, abort_ttl, repeat_every, text("reason", reason), text("by", by))


def restore(message_id: str | Rule, middleware: Abortable | None = None) -> bool:
    """Take an abort back, as long as the message has not been stopped.

    A message that waits will run. One that is running goes on, if ``Abort`` has not been raised in it yet: in its grace
    period, say, or behind a shield. One that was skipped or aborted stays so. A message that is to be aborted by its
    own id and by a rule is restored only from the one of them that is given here.

    Parameters:
      message_id: As in ``message.message_id``; or what ``abort_all()`` has returned, or the ``id`` of that.
      middleware: The ``Abortable`` of the message's broker; without it, the default broker's.

    Returns:
      bool: Whether there was a request to take back.

    Raises:
      TypeError: When the message id is not a string.
      ValueError: When it is empty or too long.
      ConfigurationError: A ``RuntimeError``: when no ``Abortable`` is to be found.
      BackendError: When the event backend does not answer. Its own error is the cause.
      UnsupportedByBackend: When the event backend cannot take anything back.
    """
    name = message_id.id if isinstance(message_id, Rule) else message_id
    names_rule = isinstance(name, str) and is_rule(name)
    key = rule_key(name) if names_rule else key_of(name)
    middleware = found(middleware)
    with asking(f"{'' if names_rule else 'message '}{name} was not restored"):
        return middleware.backend.revoke(key)


def abort_requested(message_id: str | None = None, middleware: Abortable | None = None) -> float | None:
    """Say whether a message is to be aborted, and how much time it has left.

    Parameters:
      message_id: As in ``message.message_id``; without it, the message that is being processed here.
      middleware: The ``Abortable`` of the message's broker; without it, the default broker's.

    Returns:
      float | None: How many milliseconds are left until ``Abort`` is raised, 0 when they are over; None when nobody
      has asked to abort the message. In its own actor's function this costs no round trip.

    Raises:
      TypeError: When the message id is not a string.
      ValueError: When it is empty or too long.
      ConfigurationError: A ``RuntimeError``: when no ``Abortable`` is to be found.
      BackendError: When the event backend does not answer. Its own error is the cause.
    """
    if message_id is None:
        running = current.get()
        return None if running is None else running.grace_left()
    middleware = found(middleware)
    key_of(message_id)
    with asking(f"nothing is known of message {message_id}"):
        return middleware.requested(message_id)


def shield() -> AnyShield:
    """Protect a part of an actor's function from being aborted half way.

    ::

        with shield():
            account.withdraw(10)
            other.deposit(10)

    An abort that comes meanwhile waits, and is raised on the way out of the outermost shield. Outside of a message
    that can be aborted, a shield does nothing.
    """
    running = current.get()
    return nullcontext() if running is None else running.scope.shield()


def _scopes() -> Callable[[], ThreadScope]:
    """The kind of scope that goes with the worker threads: those of gevent are greenlets."""
    if is_gevent_active():
        from ._greenlets import Scope

        return Scope
    return interrupt.Scope


def found(middleware: Abortable | None) -> Abortable:
    """Return the middleware, or the default broker's.

    Raises:
      TypeError: When it is none.
      ConfigurationError: When the default broker has none.
    """
    if middleware is None:
        broker = get_broker()
        for candidate in broker.middleware:
            if isinstance(candidate, Abortable):
                candidate.settle(broker)
                return candidate
        raise ConfigurationError(
            "the default broker has no Abortable middleware: add one with broker.add_middleware(Abortable()), "
            "or pass the one of another broker as middleware"
        )
    if not isinstance(middleware, Abortable):
        raise TypeError(f"middleware is the broker's Abortable, not {middleware!r}")
    return middleware


@contextmanager
def asking(what_if_not: str) -> Iterator[None]:
    """Let what an event backend raises come out as a ``BackendError`` that says what this means."""
    try:
        yield
    except AbortError:
        raise
    except Exception as error:
        raise BackendError(f"{what_if_not}: {type(error).__name__}: {error}") from error


def _backend_of(broker: Broker) -> EventBackend:
    """Make the backend that goes with a broker."""
    if isinstance(broker, StubBroker):
        from .backends.stub import StubBackend

        return StubBackend()
    client = getattr(broker, "client", None)  # a RedisBroker's, without importing it
    if hasattr(client, "execute_command"):
        from .backends.redis import RedisBackend

        return RedisBackend(client=client, namespace=f"{getattr(broker, 'namespace', 'dramatiq')}-abort")
    raise ConfigurationError(
        f"Abortable() cannot use a {type(broker).__name__} to carry its events: pass a backend, as in "
        "Abortable(backend=RedisBackend.from_url('redis://...'))"
    )


def _not_aborted(targets: list[Target], made: int, error: Exception) -> BackendError:
    """Say how far an abort has come."""
    what = f"message {targets[made].message_id} was not aborted"
    if len(targets) > 1:
        what = f"{made} of {len(targets)} messages were aborted; {what}, nor were those behind it"
    stopped = BackendError(f"{what}: {type(error).__name__}: {error}")
    stopped.made = made
    return stopped


def _milliseconds_or_none(name: str, time: int | None) -> int | None:
    return None if time is None else milliseconds(name, time, at_least=1)
