"""The middleware ``Abortable``."""

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

#: The name of the logger, as in dramatiq-abort 1.2, so that logging configurations written for it still apply.
_LOGGER: Final = "dramatiq_abort.middleware"

#: The hooks that dramatiq calls for every message.
_HOOKS: Final = ("before_process_message", "after_process_message")


class Abortable(Middleware):
    """Makes the messages of a broker abortable, waiting or running.

    Add it to the broker, in the workers and in the programs that call ``abort()``, at any position in the list of
    middleware. One ``Abortable`` can be added to several brokers. All times are in milliseconds.

    Parameters:
      backend: The event backend that carries abort requests, for all brokers of this middleware. By default each broker
        gets its own: a ``RedisBroker`` a ``RedisBackend`` that uses the broker's client, a ``StubBroker`` a
        ``StubBackend``. Any other broker needs this parameter.
      abortable: Whether messages can be aborted. An actor's option of the same name overrides this parameter, and a
        message's option overrides its actor's.
      abort_ttl: How long an abort request is in effect, unless ``abort()`` is given an ``abort_ttl`` of its own.
      fail_skipped: Whether a message that is aborted before its start fails. By default dramatiq acknowledges it, and
        its result is ``None``. If true, it fails, as with dramatiq's ``AgeLimit``, and its result is
        ``AbortedBeforeStart``.
      protected_modules: Names of modules and packages in whose code ``Abort`` is never raised, such as a connection
        pool or a driver. They are added to those that are always protected (``_core/protected_code.py``), for the whole
        process.
      repeat_every: The interval at which ``Abort`` is raised again in a function that has caught it and continues. By
        default it is raised once, so that a function may take its time to clean up.
      cleanup_timeout: How long the coroutine of an async actor may take to clean up after its abort. When the time is
        over, the coroutine is cancelled once more, and a second later its worker thread continues without it. By
        default there is no limit. Other actors have none either, because their function occupies the worker thread
        itself.
      interrupt_blocking_calls: Whether an abort also interrupts blocking calls such as ``time.sleep`` and
        ``socket.recv``, from CPython 3.15 on. ``_core/blocking_calls.py`` describes how, and which calls.
      warn_after: How long after its abort a message that is still running is reported in the log, once, with its stack.
        ``None`` disables the report.
      on_outcome: A function that is called with the ``Outcome`` of each message that had an abort request, as soon as
        the message is over: for metrics and traces. It runs in the thread of the worker process that learns of the
        outcome first. Exceptions that it raises are only logged.

    Raises:
      TypeError: If ``backend`` is not an ``EventBackend``, a time is not an int, ``protected_modules`` is not a list of
        names, or ``on_outcome`` is not callable.
      ValueError: If a time is not positive.
      ConfigurationError: If the broker has two ``Abortable`` or needs a ``backend``. Raised when an actor is declared,
        a worker starts or ``abort()`` is called, not by the constructor.
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
            raise TypeError(f"backend must be an EventBackend, not {backend!r}")
        modules = [] if isinstance(protected_modules, str) else list(protected_modules)
        if isinstance(protected_modules, str) or not all(isinstance(module, str) for module in modules):
            raise TypeError(f"protected_modules must be a list of module names, not {protected_modules!r}")
        self.protected_modules: list[str] = modules
        self.logger: logging.Logger = get_logger(_LOGGER, type(self))
        self.abortable = abortable
        self.abort_ttl: int = milliseconds("abort_ttl", abort_ttl, at_least=1)
        self.fail_skipped = fail_skipped
        self.repeat_every: int | None = _milliseconds_or_none("repeat_every", repeat_every)
        self.interrupt_blocking_calls = interrupt_blocking_calls
        self.cleanup_timeout: int | None = _milliseconds_or_none("cleanup_timeout", cleanup_timeout)
        if not (on_outcome is None or callable(on_outcome)):
            raise TypeError(f"on_outcome must be callable, not {on_outcome!r}")
        self.on_outcome = on_outcome
        self.warn_after: int | None = _milliseconds_or_none("warn_after", warn_after)
        self._backend = backend
        self._bindings: WeakKeyDictionary[Broker, BrokerBinding] = WeakKeyDictionary()
        self._booting = Lock()
        #: Hooks that replace the methods of the same names on this object: see _bind().
        self._bound: dict[str, Callable[..., None]] = {}
        # The actors that warn_of_hidden_call() has reported.
        self._warned_actors: set[str] = set()

    @property
    def backend(self) -> EventBackend:
        """The event backend.

        Raises:
          ConfigurationError: If the middleware was created without a backend and has not been added to a broker yet,
            or has been added to several, each with a backend of its own.
        """
        if self._backend is not None:
            return self._backend
        if len(self._bindings) > 1:
            gc.collect()  # brokers of an earlier application may be garbage that is not collected yet
        bindings = list(self._bindings.values())
        if not bindings:
            raise ConfigurationError(
                "Abortable() has no event backend yet: add it to a broker first, or pass a backend"
            )
        if len(bindings) > 1:
            raise ConfigurationError(
                f"this Abortable is on {len(bindings)} brokers, each with an event backend of its own: omit middleware "
                "to use the default broker's, create an Abortable for each broker, or create one with a backend for "
                "all of them"
            )
        return bindings[0].backend

    def abort(
        self,
        message_id: Targets,
        abort_ttl: int | None = None,
        mode: AbortMode = AbortMode.ABORT,
        abort_timeout: int = 0,
    ) -> None:
        """Abort one or more messages.

        This is the function ``abort()`` with this middleware. It takes fewer parameters than the function, with the
        same meaning, and raises the same errors.
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
        """Return how many milliseconds a message has left, or None if it has no abort request.

        This is the function ``abort_requested()`` with this middleware.
        """
        if message_id is None:
            execution = current_execution()
            return None if execution is None else execution.grace_left()
        key_of(message_id)
        with backend_errors(f"nothing is known of message {message_id}"):
            return self.requested(message_id)

    def is_abortable(self, actor: Actor[Any, Any], message: Message[Any]) -> bool:
        """Return whether a message can be aborted.

        The message's option ``abortable`` overrides its actor's, which overrides this middleware's parameter. An option
        that is None does not count. Override this method to decide in another way.
        """
        wanted = message.options.get("abortable")
        if wanted is None:
            wanted = actor.options.get("abortable")
        return self.abortable if wanted is None else bool(wanted)

    @property
    def must_be_asked(self) -> bool:
        """Whether ``is_abortable()`` must be called even if neither the message nor its actor has the option."""
        return not self.abortable or type(self).is_abortable is not Abortable.is_abortable

    @property
    def actor_options(self) -> set[str]:
        return {"abort_tags", "abortable", "on_abort"}

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        self.bind(broker)
        tags_of(actor.options.get("abort_tags"))

    def after_declare_actor(self, broker: Broker, actor: Actor[Any, Any] | str) -> None:
        binding = self.bind(broker)
        if isinstance(actor, str):  # dramatiq before 2.0, for an actor declared before the middleware was added
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
            if len(self._bindings) != 1:  # another thread may have added a broker since the check above
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
        """Warn once per actor that its running messages cannot be aborted."""
        if actor_name not in self._warned_actors:
            self._warned_actors.add(actor_name)
            self.logger.warning(
                "Messages of actor %s cannot be aborted while they run: the function called for them is not the "
                "declared one.",
                actor_name,
            )

    def settings(self) -> Settings:
        """Return the settings for a worker process."""
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
        """Return the middleware that come after this one on a broker."""
        middleware = list(broker.middleware)
        return middleware[middleware.index(self) + 1 :] if self in middleware else []

    def _bind(self, hooks: MessageHooks) -> None:
        """Make dramatiq call the message hooks directly, except those that a subclass or the program overrides."""
        for name in _HOOKS:
            if getattr(type(self), name) is getattr(Abortable, name) and name not in vars(self):
                self._bound[name] = getattr(hooks, name)
                setattr(self, name, self._bound[name])

    def _unbind(self) -> None:
        """Make dramatiq call this object's methods again, which select the hooks by the broker."""
        for name, bound in self._bound.items():
            if vars(self).get(name) is bound:
                delattr(self, name)
        self._bound = {}

    def bind(self, broker: Broker) -> BrokerBinding:
        """Return the binding to a broker, and create it on first use.

        Raises:
          ConfigurationError: If the broker has another ``Abortable``, or needs a backend.
        """
        if sum(isinstance(middleware, Abortable) for middleware in broker.middleware) > 1:
            raise ConfigurationError("this broker has two Abortable middleware: remove one")
        binding = self._bindings.get(broker)
        if binding is None:
            backend = backend_of(broker) if self._backend is None else self._backend
            binding = self._bindings.setdefault(broker, BrokerBinding(self, broker, backend))
            if len(self._bindings) > 1:
                self._unbind()
        return binding

    def requested(self, message_id: str) -> float | None:
        """Return what ``abort_requested()`` returns for a message that may be running elsewhere."""
        return time_left(message_id, list(self._bindings.values()), self.backend)


def _milliseconds_or_none(name: str, time: int | None) -> int | None:
    return None if time is None else milliseconds(name, time, at_least=1)
