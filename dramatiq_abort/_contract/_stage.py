"""A worker, and callers of ``abort()``."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from dramatiq import Actor, Message, Worker, actor
from dramatiq.brokers.stub import StubBroker

from .._middleware.abortable import Abortable
from .._task.cooperation import sleep
from ._patience import HOUR, PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._protocol.outcome import Outcome, OutcomeState
    from ..backends.base import EventBackend
    from ._fixtures import MakeBackend

__all__ = ["Stage"]


class Stage:
    """A worker with its own backend, and an ``Abortable`` with another backend for callers."""

    def __init__(self, make_backend: MakeBackend) -> None:
        self.outcomes: SimpleQueue[Outcome] = SimpleQueue()
        self.reports: SimpleQueue[object] = SimpleQueue()
        self.callers: Abortable = Abortable(backend=make_backend())
        self.backend: EventBackend = make_backend()
        abortable = Abortable(backend=self.backend, on_outcome=self.outcomes.put)
        self.broker: StubBroker = StubBroker(middleware=[abortable])
        self.worker: Worker = Worker(self.broker, worker_timeout=10, worker_threads=4)

    def actor(self, function: Callable[..., object]) -> Actor[Any, Any]:
        return actor(broker=self.broker, actor_name="task")(function)

    def task(self) -> Actor[Any, Any]:
        """Return an actor that reports that it runs, and goes on until it is aborted."""

        def task() -> None:
            self.reports.put("runs")
            while True:
                sleep(HOUR)

        return self.actor(task)

    def next_report(self) -> object:
        """Return the next report of an actor."""
        return self.reports.get(timeout=PATIENCE)

    def becomes_of(self, message: Message[Any]) -> OutcomeState:
        """Return the next outcome, which must be that of this message."""
        outcome = self.outcomes.get(timeout=PATIENCE)
        assert outcome.message_id == message.message_id
        return outcome.state
