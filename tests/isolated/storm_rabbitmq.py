"""A RabbitMQ for a storm's messages: sent messages arrive, also after a send that was aborted."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import dramatiq
from dramatiq.middleware import Middleware

sys.path.append(str(Path(__file__).parents[1]))
from rabbitmq import binary, started

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RabbitMQ", "rabbitmq"]


@contextmanager
def rabbitmq() -> Iterator[RabbitMQ | None]:
    """Start a server and a receiver, if this machine has RabbitMQ, and this environment its client."""
    program = binary()
    if program is None or find_spec("pika") is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as directory, contextmanager(started)(program, Path(directory)) as url:
        yield RabbitMQ(url)


class RabbitMQ(Middleware):
    """Sends, receives, and compares the two."""

    def __init__(self, url: str) -> None:
        from dramatiq.brokers.rabbitmq import RabbitmqBroker

        self._begun, self._sent, self._received = [], [], set()
        broker = RabbitmqBroker(url=url, middleware=[self])
        self._receive = dramatiq.actor(broker=broker, actor_name="receive")(int)
        dramatiq.Worker(broker, worker_timeout=20, worker_threads=2).start()

    def send(self) -> None:
        self._receive.send()

    def before_enqueue(self, broker, message, delay):
        self._begun.append(message.message_id)

    def after_enqueue(self, broker, message, delay):
        self._sent.append(message.message_id)

    def after_process_message(self, broker, message, *, result=None, exception=None):
        self._received.add(message.message_id)

    def count(self, patience: float) -> tuple[int, int]:
        """Count the sends whose hooks were interrupted, and the sent messages that did not arrive; then reset.

        Parameters:
          patience: The seconds without an arrival after which no more is expected.
        """
        sent, missing, since = set(self._sent), -1, time.monotonic()
        while sent - self._received and time.monotonic() < since + patience:
            if missing != (missing := len(sent - self._received)):
                since = time.monotonic()
            time.sleep(0.01)
        counts = len(set(self._begun) - sent), len(sent - self._received)
        self._begun.clear(), self._sent.clear(), self._received.clear()
        return counts
