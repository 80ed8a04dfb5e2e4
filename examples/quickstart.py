"""Abort a task that never ends, in a single process."""

import threading

import dramatiq
from dramatiq.brokers.stub import StubBroker

from dramatiq_abort import Abortable, abort
from dramatiq_abort.backends import StubBackend

broker = StubBroker()
broker.add_middleware(Abortable(backend=StubBackend()))
dramatiq.set_broker(broker)
started = threading.Event()


@dramatiq.actor
def run_forever() -> None:
    started.set()
    while True:
        pass


worker = dramatiq.Worker(broker)
worker.start()
message = run_forever.send()
started.wait()
abort(message.message_id)
broker.join(run_forever.queue_name, fail_fast=False)
print("The task would have run forever. It was aborted and is not retried.")
worker.stop()
