"""What an ``Abortable`` has for each of its brokers."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ._actor import UntilNeeded, call_is_hidden, in_scope, put
from .errors import ConfigurationError, InvalidOption
from .request import AbortRequest, key_of
from .rule import tags_of

if TYPE_CHECKING:
    import logging
    from collections.abc import Collection, Iterable

    from dramatiq import Actor, Broker, Message, Worker

    from ._abortable import Abortable
    from ._processing import Processing
    from .backend import EventBackend

__all__ = ["BrokerSide", "backend_of", "time_left"]


class BrokerSide:
    """The part of one ``Abortable`` on one broker: its event backend, its actors, and its workers in this process.

    It does not keep the broker alive, or a program that makes one broker after another would keep them all.
    """

    def __init__(self, abortable: Abortable, broker: Broker, backend: EventBackend) -> None:
        self.abortable = abortable
        self.backend = backend
        self._broker = weakref.ref(broker)
        self._declared: weakref.WeakSet[Actor[Any, Any]] = weakref.WeakSet()
        #: Actors whose messages take the slow path.
        self.special_actors: set[str] = set()
        #: Of a process that has workers: any other need not import what goes with it.
        self.processing: Processing | None = None
        self._workers: set[Worker] = set()

    @property
    def abort_ttl(self) -> int:
        return self.abortable.abort_ttl

    @property
    def broker(self) -> Broker:
        """The broker, for as long as it is there.

        Raises:
          ReferenceError: When it is not.
        """
        broker = self._broker()
        if broker is None:
            raise ReferenceError("this broker is gone")
        return broker

    def declare(self, actor: Actor[Any, Any], logger: logging.Logger) -> None:
        """Make the messages of an actor abortable."""
        self._declared.add(actor)
        self._note(actor.actor_name, actor)
        fn = actor.fn
        put(actor, UntilNeeded(fn, lambda: in_scope(fn, actor, logger)), fn)
        if self.processing is not None:
            self._enclose([actor])

    def actor(self, name: str) -> Actor[Any, Any] | None:
        """Return the broker's actor of that name, or None."""
        broker = self._broker()
        return None if broker is None else broker.actors.get(name)

    def option(self, actor_name: str, name: str) -> Any:
        """Return the current value of an actor's option, which other middleware may have set."""
        actor = self.actor(actor_name)
        return None if actor is None else actor.options.get(name)

    def tags_of(self, message: Message[Any]) -> Collection[str]:
        tags: tuple[str, ...] = ()
        for option in (self.option(message.actor_name, "abort_tags"), message.options.get("abort_tags")):
            with suppress(InvalidOption):  # what others have set or enqueued may be anything
                tags += tags_of(option)
        return tags

    def boot(self, worker: Worker, others: Iterable[BrokerSide]) -> Processing:
        """Be ready for the messages of a worker.

        Brokers with the same backend object share what watches it, since that hands each signal out once.

        Raises:
          ConfigurationError: When this interpreter cannot.
        """
        try:
            from ._processing import Processing
            from ._worker import WorkerSide
        except Exception as error:  # dramatiq would log it, and run messages that cannot be aborted
            raise ConfigurationError(f"this worker cannot interrupt messages: {error}") from error

        actors = dict(self.broker.actors)
        for name, actor in actors.items():
            if actor not in self._declared:  # it was there before the list of middleware was set
                self.declare(actor, self.abortable.logger)
            self._note(name, actor)  # it may be an old name, and other middleware may have set options since
        if self.processing is None:
            self.processing = Processing(self)
        self._enclose(actors.values())
        if self.processing.worker_side is None:
            sharing = (other.processing for other in others if other.backend is self.backend)
            shared = (each.worker_side for each in sharing if each is not None and each.worker_side is not None)
            worker_side = next(shared, None) or WorkerSide(self.abortable, self.backend)
            worker_side.join(self.processing)
        self._workers.add(worker)
        return self.processing

    def shut_down(self, worker: Worker) -> None:
        """Let go of a worker: it may never have been booted, or be shut down for the second time."""
        self._workers.discard(worker)
        if not self._workers and self.processing is not None and self.processing.worker_side is not None:
            self.processing.worker_side.leave(self.processing)

    def requested(self, message_id: str) -> float | None:
        """What ``abort_requested()`` says of a message that need not be running here."""
        return time_left(message_id, [self], self.backend)

    def _note(self, name: str, actor: Actor[Any, Any]) -> None:
        if actor.options.get("abortable") is not None:
            self.special_actors.add(name)

    def _enclose(self, actors: Iterable[Actor[Any, Any]]) -> None:
        """Replace the stubs of actors by their functions in scopes, but not a stub that has been wrapped since."""
        for actor in actors:
            stub = next((value for value in vars(actor).values() if isinstance(value, UntilNeeded)), None)
            if stub is not None:
                put(actor, stub.made(), stub)
            if call_is_hidden(actor):
                self.abortable.warn_of_hidden_call(actor.actor_name)


def time_left(message_id: str, sides: Iterable[BrokerSide], backend: EventBackend) -> float | None:
    """Return the milliseconds that a message has left, on one of these sides or elsewhere; None without a request."""
    key = key_of(message_id)
    for side in sides:
        if side.processing is not None:
            for running in side.processing.running.with_key(key):
                return running.grace_left()
    event = backend.read(key)
    return None if event is None else float(AbortRequest.decode(event.value).grace_left(event.ttl))


def backend_of(broker: Broker) -> EventBackend:
    """Make the backend that goes with a broker.

    Raises:
      ConfigurationError: When none does.
    """
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
