"""Abort a task that would never end, in one process."""

import itertools
import threading

import dramatiq
from dramatiq.brokers.stub import StubBroker

from dramatiq_abort import Abort, Abortable, abort
from dramatiq_abort.backends import StubBackend

broker = StubBroker()
broker.add_middleware(Abortable(backend=StubBackend()))
dramatiq.set_broker(broker)
counting = threading.Event()


def count_for_ever() -> None:
    for number in itertools.count():
        if number == 1_000_000:
            counting.set()


@dramatiq.actor
def count() -> None:
    try:
        count_for_ever()
    except Abort:
        print("The task was aborted while it was counting.")
        raise


worker = dramatiq.Worker(broker)
worker.start()
message = count.send()
counting.wait()
print("The task has counted to a million, and would go on for ever.")
abort(message.message_id)
broker.join(count.queue_name, fail_fast=False)
print("It has ended, and is not tried again.")
worker.stop()
