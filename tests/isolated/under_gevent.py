"""Aborts under gevent's monkey patching, in a process of its own: ``python under_gevent.py [REDIS_URL]``.

Prints what happened, one line each, for the test that runs it.
"""

# ruff: noqa: E402 - patching comes first
from gevent import monkey

monkey.patch_all()

import sys
import threading
import time

import dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.results import ResultFailure, Results
from dramatiq.results.backends import StubBackend as StubResults

from dramatiq_abort import Abort, Abortable, abort, abort_requested, shield
from dramatiq_abort.backends import RedisBackend, StubBackend

backend = RedisBackend.from_url(sys.argv[1]) if sys.argv[1:] else StubBackend()
broker = StubBroker()
broker.add_middleware(Results(backend=StubResults(), store_results=True))
broker.add_middleware(Abortable(backend=backend))
dramatiq.set_broker(broker)
started = threading.Semaphore(0)


@dramatiq.actor
def sleep() -> None:
    started.release()
    try:
        time.sleep(600)
    except Abort as aborted:
        print("aborted", aborted.message_id == sleeping.message_id)
        raise


@dramatiq.actor
def protect() -> None:
    with shield():
        started.release()
        while abort_requested() is None:
            time.sleep(0.001)
        time.sleep(0.01)
        print("completed")
    print("not aborted")


@dramatiq.actor
def return_at_once(number: int) -> int:
    started.release()
    time.sleep(0)
    return number


def result_of(message: dramatiq.Message) -> object:
    try:
        return message.get_result(block=True, timeout=20_000)
    except ResultFailure as failure:
        return failure.orig_exc_type


worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=4)
worker.start()

sleeping = sleep.send()
started.acquire()
abort(sleeping.message_id)
print("sleep", result_of(sleeping))

protecting = protect.send()
started.acquire()
abort(protecting.message_id)
print("protect", result_of(protecting))

skipped = sleep.message()
abort(skipped.message_id)
broker.enqueue(skipped)
print("skipped", result_of(skipped))

# Whatever the moment: aborted or completed, and the greenlets of the worker live.
messages = [return_at_once.send(number) for number in range(500)]
for message in messages:
    started.acquire(timeout=0.001)
    abort(message.message_id)
outcomes = [result_of(message) for message in messages]
print("storm", all(outcome in {"Abort", None, number} for number, outcome in enumerate(outcomes)))
print("workers", all(thread.is_alive() for thread in worker.workers))
worker.stop()
print("threads", sorted(thread.name for thread in threading.enumerate() if "abort" in thread.name))
