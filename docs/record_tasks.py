"""What the worker runs whose commands are on the page: see record_cli.py."""

from __future__ import annotations

import os
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from dramatiq_abort import Abort, Abortable

broker = RedisBroker(url=os.environ["DRAMATIQ_ABORT_URL"])
broker.add_middleware(Abortable())
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name="reports")
def report(customer: str, *, year: int) -> None:  # noqa: ARG001
    """Go on until aborted, and clean up for a while."""
    try:
        while True:
            time.sleep(0.01)
    except Abort:
        time.sleep(1)
        raise


@dramatiq.actor
def mail(to: str) -> None:
    """Is never reached."""
