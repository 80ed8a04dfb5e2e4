"""The middleware for the workers."""

from __future__ import annotations

import gc
from threading import Lock
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from dramatiq.logging import get_logger
from dramatiq.middleware import Middleware

from .._protocol.request import AbortMode, key_of, milliseconds
from .._protocol.request_batch import request_batch_of
from .._protocol.rule import tags_of
from .._task.current import current_execution
from ..backends.base import EventBackend
from ..backends.errors import backend_errors
from ..errors import ConfigurationError
from .binding import BrokerBinding, backend_of, time_left

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable

    from dramatiq import Actor, Broker, Message, Worker
    from dramatiq.broker import MessageProxy

    from .._protocol.outcome import Outcome
    from .._protocol.targets import Targets
    from .._worker.hooks import MessageHooks
    from .._worker.settings import Settings

__all__ = ["Abortable"]

#: The name of its logger, as in dramatiq-abort 1.2: for programs that say how much they want to hear of it.
_LOGGER: Final = "dramatiq_abort.middleware"

#: The hooks that every message goes through.
_HOOKS: Final = ("before_process_message", "after_process_message")


class Abortable(Middleware):
    """Makes the messages of a broker abortable.

    Add it to the broker of the workers and of those who call ``abort()``, anywhere in the list of middleware. It can be
    on several brokers.

    Parameters:
      backend: Carries the requests, of all its brokers. Without one, each broker has its own: a ``RedisBroker``'s own
        client is used, and on a ``StubBroker`` a ``StubBackend``; any other broker needs one.
      abortable: Whether messages can be aborted. The actor's option of the same name goes before this one, and the
        message's before the actor's.
      abort_ttl: For how many milliseconds a request takes effect, unless ``abort()`` says otherwise.
      fail_skipped: What becomes of a message that is aborted before its start. dramatiq acknowledges what is skipped,
        and its result is None; with this it fails, as with ``AgeLimit``, and its result is ``AbortedBeforeStart``.
      protected_modules: The names of modules, or of packages, in whose code ``Abort`` is never raised, for the whole
        process: a connection pool, say, or a driver. ``_core/safe_points.py`` has those of the standard library.
      repeat_every: After how many milliseconds ``Abort`` is raised again, and so on, in a function that has caught it
        and goes on. Without it, once: a function may take its time to clean up.
      cleanup_timeout: How many milliseconds a coroutine may take to clean up after its abort. Then it is cancelled once
        more, and its worker thread goes on without it a second later. None: as long as it takes. For async actors only:
        any other function is what the worker thread itself is doing.
      interrupt_blocking_calls: Whether an abort interrupts ``time.sleep``, a socket, and their like, from CPython 3.15
        on; see ``_core/blocking_calls.py`` for how, and which.
      warn_after: How many milliseconds after its abort a message that is still running is reported in the log, once,
        with its stack. None: never.
      on_outcome: Called with the ``Outcome`` of each message that somebody has asked to abort, as soon as it is over,
        in whichever thread of the worker process that is known first: for metrics and traces. What it raises goes to
        the log, and nowhere else.

    Raises:
      TypeError: When the backend is no ``EventBackend``, a time is no integer, or ``protected_modules`` is no list of
        names.
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
        protected_modules: Iterable[str] = (),
        repeat_every: int | None = None,
        cleanup_timeout: int | None = None,
        interrupt_blocking_calls: bool = True,
        warn_after: int | None = 10_000,
        on_outcome: Callable[[Outcome], object] | None = None,
    ) -> None:
        if backend is not None and not isinstance(backend, EventBackend):
            raise TypeError(f"the backend of Abortable is an EventBackend, not {backend!r}")
        modules = [] if isinstance(protected_modules, str) else list(protected_modules)
        if isinstance(protected_modules, str) or not all(isinstance(module, str) for module in modules):
            raise TypeError(f"protected_modules is a list of modules' names, not {protected_modules!r}")
        self.protected_modules: list[str] = modules
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
        self.warn_after: int | None = _milliseconds_or_none("warn_after", warn_after)
        self._backend = backend
        self._bindings: WeakKeyDictionary[Broker, BrokerBinding] = WeakKeyDictionary()
        self._booting = Lock()
        #: The hooks that dramatiq calls elsewhere than here.
        self._bound: dict[str, Callable[..., None]] = {}
        # The names of actors of which a warning has been given.
        self._hidden: set[str] = set()

    @property
    def backend(self) -> EventBackend:
        """The event backend.

        Raises:
          ConfigurationError: When none was given and the middleware has not met its broker yet, or has met several,
            which have a backend each.
        """
        if self._backend is not None:
            return self._backend
        if len(self._bindings) > 1:
            gc.collect()  # brokers of an earlier application may be garbage that is not collected yet
        bindings = list(self._bindings.values())
        if not bindings:
            raise ConfigurationError("add the Abortable to its broker before it is used, or give it a backend")
        if len(bindings) > 1:
            raise ConfigurationError(
                f"this Abortable is on {len(bindings)} brokers, each with an event backend of its own: pass no "
                "middleware if the default broker's is meant, or make an Abortable for each broker, or one with a "
                "backend for all"
            )
        return bindings[0].backend

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
        requests = request_batch_of(
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
            execution = current_execution()
            return None if execution is None else execution.grace_left()
        key_of(message_id)
        with backend_errors(f"nothing is known of message {message_id}"):
            return self.requested(message_id)

    def is_abortable(self, actor: Actor[Any, Any], message: Message[Any]) -> bool:
        """Say whether a message can be aborted.

        Its own option ``abortable`` goes before its actor's, and that before this middleware's; None says nothing.
        """
        wanted = message.options.get("abortable")
        if wanted is None:
            wanted = actor.options.get("abortable")
        return self.abortable if wanted is None else bool(wanted)

    @property
    def must_be_asked(self) -> bool:
        """Whether ``is_abortable`` decides even where neither a message nor its actor says anything."""
        return not self.abortable or type(self).is_abortable is not Abortable.is_abortable

    @property
    def actor_options(self) -> set[str]:
        return {"abort_tags", "abortable", "on_abort"}

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        self.bind(broker)
        tags_of(actor.options.get("abort_tags"))

    def after_declare_actor(self, broker: Broker, actor: Actor[Any, Any] | str) -> None:
        binding = self.bind(broker)
        if isinstance(actor, str):  # before dramatiq 2.0, for actors that were declared before the middleware was added
            actor = broker.get_actor(actor)
        binding.declare(actor, self.logger)

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        if "abort_tags" in message.options:
            tags_of(message.options["abort_tags"])

    def after_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        execution = current_execution()
        if execution is not None:
            execution.follow_itself()

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        binding = self.bind(broker)
        with self._booting:
            runtime = binding.boot(worker, list(self._bindings.values()))
            if len(self._bindings) == 1:
                self._bind(runtime.hooks)
            if len(self._bindings) != 1:  # by now
                self._unbind()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        binding = self._bindings.get(broker)
        if binding is not None:
            with self._booting:
                binding.shut_down(worker)

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        binding = self._bindings.get(broker)
        if binding is not None and binding.runtime is not None:
            binding.runtime.hooks.before_process_message(broker, message)

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        binding = self._bindings.get(broker)
        if binding is not None and binding.runtime is not None:
            binding.runtime.hooks.after_process_message(broker, message, result=result, exception=exception)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        binding = self._bindings.get(broker)
        if binding is not None and binding.runtime is not None:
            binding.runtime.after_skip_message(broker, message)

    def after_nack(self, broker: Broker, message: MessageProxy) -> None:
        binding = self._bindings.get(broker)
        if binding is not None and binding.runtime is not None:
            binding.runtime.after_nack(message)

    def warn_of_hidden_call(self, actor_name: str) -> None:
        """Say once of an actor that its messages run to their end, whatever is asked."""
        if actor_name not in self._hidden:
            self._hidden.add(actor_name)
            self.logger.warning(
                "Messages of actor %s cannot be aborted while they run: what is called for them is not the actor's fn.",
                actor_name,
            )

    def settings(self) -> Settings:
        """Return what a worker process is told of this."""
        from .._worker.settings import Settings

        return Settings(
            logger=self.logger,
            protected_modules=tuple(self.protected_modules),
            abortable=self.abortable,
            abort_ttl=self.abort_ttl,
            fail_skipped=self.fail_skipped,
            repeat_every=self.repeat_every,
            cleanup_timeout=self.cleanup_timeout,
            interrupt_blocking_calls=self.interrupt_blocking_calls,
            warn_after=self.warn_after,
            on_outcome=self.on_outcome,
            is_abortable=self.is_abortable,
            must_be_asked=self.must_be_asked,
            warn_of_hidden_call=self.warn_of_hidden_call,
            middleware_behind=self.middleware_behind,
        )

    def middleware_behind(self, broker: Broker) -> list[Middleware]:
        """Return the middleware of a broker that stand behind this one."""
        middleware = list(broker.middleware)
        return middleware[middleware.index(self) + 1 :] if self in middleware else []

    def _bind(self, hooks: MessageHooks) -> None:
        """Let dramatiq call the passage's hooks directly, except those that a subclass or the program overrides."""
        for name in _HOOKS:
            if getattr(type(self), name) is getattr(Abortable, name) and name not in vars(self):
                self._bound[name] = getattr(hooks, name)
                setattr(self, name, self._bound[name])

    def _unbind(self) -> None:
        """Let dramatiq call the hooks of this object again, which choose the passage by the broker."""
        for name, bound in self._bound.items():
            if vars(self).get(name) is bound:
                delattr(self, name)
        self._bound = {}

    def bind(self, broker: Broker) -> BrokerBinding:
        """Make sure that this is the broker's only one and has a backend for it.

        Raises:
          ConfigurationError: When it is not, or has none.
        """
        if sum(isinstance(middleware, Abortable) for middleware in broker.middleware) > 1:
            raise ConfigurationError("this broker has two Abortable middleware: add one")
        binding = self._bindings.get(broker)
        if binding is None:
            backend = backend_of(broker) if self._backend is None else self._backend
            binding = self._bindings.setdefault(broker, BrokerBinding(self, broker, backend))
            if len(self._bindings) > 1:
                self._unbind()
        return binding

    def requested(self, message_id: str) -> float | None:
        """What ``abort_requested()`` says of a message that need not be running here."""
        return time_left(message_id, list(self._bindings.values()), self.backend)


def _milliseconds_or_none(name: str, time: int | None) -> int | None:
    return None if time is None else milliseconds(name, time, at_least=1)
