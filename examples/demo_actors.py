"""The tasks of the demo, and the broker that they share with ``demo.py``.

Each task records in Redis what happens to it, so that the demo reports what happened, not what should have.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from dramatiq_abort import Abort, Abortable, abort_requested, shield
from dramatiq_abort.interrupt import IMPLEMENTATION

URL = os.environ["DEMO_REDIS_URL"]
NAMESPACE = os.environ["DEMO_NAMESPACE"]


class DemoResults(RedisBackend):
    """dramatiq's result backend, with recognisable keys that the demo can remove at the end."""

    def build_message_key(self, message: dramatiq.Message[Any]) -> str:
        return f"{NAMESPACE}-results:{message.message_id}"


broker = RedisBroker(url=URL, namespace=NAMESPACE)
broker.add_middleware(CurrentMessage())
broker.add_middleware(Results(backend=DemoResults(url=URL)))
broker.add_middleware(Abortable())  # uses the broker's own connection to Redis
dramatiq.set_broker(broker)


def write_down(event: str, **facts: object) -> None:
    """Record an event of this task for the demo."""
    entry = json.dumps({"event": event, "time": time.time(), "pid": os.getpid(), **facts})
    message = CurrentMessage.get_current_message()
    assert message is not None
    with shield():  # an abort in the middle of a command would leave the connection half used
        broker.client.rpush(f"{NAMESPACE}:{message.message_id}", entry)


@dramatiq.actor(store_results=True)
def introduce() -> str:
    """Return the name of the core in use."""
    return IMPLEMENTATION


@dramatiq.actor(store_results=True)
def count() -> int:
    """Count for ten seconds, without checking whether to stop."""
    number = 0
    try:
        for number in range(10_000):
            if number == 100:
                write_down("at work")
            time.sleep(0.001)
    except Abort:
        write_down("aborted", number=number)
        raise
    return number


@dramatiq.actor(store_results=True)
def copy_pages() -> str:
    """Copy pages until asked to stop, then clean up in the time that is left."""
    for page in range(10_000):
        if page == 100:
            write_down("at work")
        if abort_requested() is not None:
            break
        time.sleep(0.001)
    for action in ("flushed", "closed", "renamed"):
        write_down(action, milliseconds_left=abort_requested())
        time.sleep(0.1)
    return f"{page} pages are copied"


@dramatiq.actor(store_results=True)
def transfer() -> str:
    """Move money from one account to another: both halves, or neither."""
    try:
        with shield():
            write_down("withdrawn", abort_has_come=abort_requested() is not None)
            for _ in range(3_000):
                if abort_requested() is not None:
                    break
                time.sleep(0.001)
            write_down("deposited", abort_has_come=abort_requested() is not None)
        write_down("gone on")
    except Abort:
        write_down("aborted")
        raise
    return "the money is moved"
