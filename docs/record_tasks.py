"""The actors of the worker that record_cli.py starts."""

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
    """Run until aborted, then clean up for a second."""
    try:
        while True:
            time.sleep(0.01)
    except Abort:
        time.sleep(1)
        raise


@dramatiq.actor
def mail(to: str) -> None:
    """Do nothing: its message is delayed by an hour and never runs."""
