"""The binding of an ``Abortable`` to one of its brokers."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Protocol

from .._protocol.request import AbortRequest, key_of
from ..errors import ConfigurationError
from .actors import LazyScopedCall, call_is_hidden, replace_function

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable

    from dramatiq import Actor, Broker, Worker

    from .._worker.broker_runtime import BrokerRuntime
    from .._worker.runtime import WorkerRuntime
    from .._worker.settings import Settings
    from ..backends.base import EventBackend

__all__ = ["BrokerBinding", "backend_of", "time_left"]


class Owner(Protocol):
    """The ``Abortable`` of a binding."""

    abort_ttl: int
    logger: logging.Logger

    def settings(self) -> Settings:
        """Return what its workers are told."""

    def warn_of_hidden_call(self, actor_name: str) -> None:
        """Warn of an actor whose messages cannot be aborted while they run."""


class BrokerBinding:
    """One ``Abortable`` on one broker: its event backend, its actors, and its workers in this process.

    Does not keep the broker alive: a program that creates one broker after another would otherwise keep them all.
    """

    def __init__(self, abortable: Owner, broker: Broker, backend: EventBackend) -> None:
        self.abortable = abortable
        self.backend = backend
        self._broker = weakref.ref(broker)
        self._declared: weakref.WeakSet[Actor[Any, Any]] = weakref.WeakSet()
        #: Set where this process has workers. Other processes never import its module.
        self.runtime: BrokerRuntime | None = None
        self.worker_runtime: WorkerRuntime | None = None
        #: The settings of the runtime.
        self.settings: Settings | None = None
        self._workers: set[Worker] = set()

    @property
    def abort_ttl(self) -> int:
        return self.abortable.abort_ttl

    @property
    def broker(self) -> Broker:
        """The broker.

        Raises:
          ReferenceError: If the broker has been garbage-collected.
        """
        broker = self._broker()
        if broker is None:
            raise ReferenceError("this broker has been garbage-collected")
        return broker

    def declare(self, actor: Actor[Any, Any], logger: logging.Logger) -> None:
        """Make the messages of an actor abortable."""
        self._declared.add(actor)
        fn = actor.fn
        replace_function(actor, LazyScopedCall(fn, lambda: _scoped(fn, actor, logger)), fn)
        if self.runtime is not None:
            self.runtime.declare(actor.actor_name, actor)
            self._enclose([actor])

    def boot(self, worker: Worker, others: Iterable[BrokerBinding]) -> BrokerRuntime:
        """Prepare for the messages of a worker.

        Brokers with the same backend object share one ``WorkerRuntime``, because a backend object hands out each signal
        only once.

        Raises:
          ConfigurationError: If this process cannot import a core.
        """
        try:
            from .._worker.broker_runtime import BrokerRuntime
            from .._worker.runtime import WorkerRuntime
        except Exception as error:  # dramatiq would only log it, and messages could not be aborted
            raise ConfigurationError(f"this worker cannot interrupt messages: {error}") from error

        actors = dict(self.broker.actors)
        for actor in actors.values():
            if actor not in self._declared:  # declared before the list of middleware was set
                self.declare(actor, self.abortable.logger)
        if self.runtime is None or self.settings is None:
            self.settings = self.abortable.settings()
            self.runtime = BrokerRuntime(self.broker, self.backend, self.settings)
        for name, actor in actors.items():  # also under old names, and with options that other middleware has set since
            self.runtime.declare(name, actor)
        self._enclose(actors.values())
        if self.worker_runtime is None:
            sharing = (other.worker_runtime for other in others if other.backend is self.backend)
            shared = next((each for each in sharing if each is not None), None)
            self.worker_runtime = shared or WorkerRuntime(self.settings, self.backend)
            self.worker_runtime.join(self.runtime)
        self._workers.add(worker)
        return self.runtime

    def shut_down(self, worker: Worker) -> None:
        """Release a worker. It may never have booted, or have been shut down before."""
        self._workers.discard(worker)
        if not self._workers and self.runtime is not None and self.worker_runtime is not None:
            self.worker_runtime.leave(self.runtime)
            self.worker_runtime = None

    def requested(self, message_id: str) -> float | None:
        """Return what ``abort_requested()`` returns for a message that may be running elsewhere."""
        return time_left(message_id, [self], self.backend)

    def _enclose(self, actors: Iterable[Actor[Any, Any]]) -> None:
        """Replace the lazy stubs of actors by their scoped calls, except stubs that have been wrapped since."""
        for actor in actors:
            stub = next((value for value in vars(actor).values() if isinstance(value, LazyScopedCall)), None)
            if stub is not None:
                replace_function(actor, stub.made(), stub)
            if call_is_hidden(actor):
                self.abortable.warn_of_hidden_call(actor.actor_name)


def _scoped(fn: Callable[..., Any], actor: Actor[Any, Any], logger: logging.Logger) -> Callable[..., Any]:
    from .._worker.calls import scoped  # imports a core

    return scoped(fn, actor, logger)


def time_left(message_id: str, bindings: Iterable[BrokerBinding], backend: EventBackend) -> float | None:
    """Return how many milliseconds a message has left, on one of these brokers or elsewhere.

    None if it has no abort request.
    """
    key = key_of(message_id)
    for binding in bindings:
        if binding.runtime is not None:
            for execution in binding.runtime.executions.with_key(key):
                return execution.grace_left()
    event = backend.read(key)
    return None if event is None else float(AbortRequest.decode(event.value).grace_left(event.ttl))


def backend_of(broker: Broker) -> EventBackend:
    """Return a new event backend for a broker.

    Raises:
      ConfigurationError: If no backend fits this kind of broker.
    """
    client = getattr(broker, "client", None)  # a RedisBroker's, without importing it
    if hasattr(client, "execute_command"):
        from ..backends.redis import RedisBackend

        return RedisBackend(client=client, namespace=f"{getattr(broker, 'namespace', 'dramatiq')}-abort")
    from dramatiq.brokers.stub import StubBroker

    if isinstance(broker, StubBroker):
        from ..backends.stub import StubBackend

        return StubBackend()
    raise ConfigurationError(
        f"Abortable() needs a backend on a {type(broker).__name__}: pass one, as in "
        "Abortable(backend=RedisBackend.from_url('redis://...'))"
    )
