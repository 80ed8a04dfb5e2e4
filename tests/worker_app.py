"""The actors that the tests run in real worker processes: ``python -m dramatiq worker_app``."""

from __future__ import annotations

import os
import runpy
import time
from pathlib import Path

import dramatiq
import redis
from dramatiq.brokers.redis import MAINTENANCE_SCALE, RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend as RedisResults
from support import run_forever

from dramatiq_abort import Abort, Abortable, abort_requested, interrupt, shield

# After this timeout, a dead worker's messages are redelivered to the next worker that asks for messages.
broker = RedisBroker(
    url=os.environ["TEST_REDIS_URL"],
    namespace=os.environ["TEST_NAMESPACE"],
    heartbeat_timeout=int(os.environ.get("TEST_HEARTBEAT_TIMEOUT", "60000")),
    maintenance_chance=MAINTENANCE_SCALE,
)
# On a busy machine, waits for results last longer than redis-py's timeout.
results_client = redis.Redis.from_url(os.environ["TEST_REDIS_URL"], socket_timeout=60)
broker.add_middleware(Results(backend=RedisResults(client=results_client), store_results=True))
if "TEST_PROMETHEUS" in os.environ:
    from dramatiq.middleware.prometheus import Prometheus

    if not any(isinstance(middleware, Prometheus) for middleware in broker.middleware):  # as before dramatiq 2
        broker.add_middleware(Prometheus())
events = None  # the broker's own server carries them
if "TEST_SQLITE_EVENTS" in os.environ:
    example = Path(__file__).parent.parent / "examples" / "sqlite_backend.py"
    events = runpy.run_path(str(example))["SQLiteBackend"](os.environ["TEST_SQLITE_EVENTS"])
broker.add_middleware(Abortable(backend=events))
dramatiq.set_broker(broker)


def tell(key: str, what: object) -> None:
    """Report a value to the test."""
    broker.client.rpush(key, str(what))


@dramatiq.actor(min_backoff=1, max_backoff=1)
def run(key: str) -> None:
    """Run until aborted, and report the time of the abort."""
    try:
        tell(key, interrupt.IMPLEMENTATION)
        run_forever()
    except Abort:
        now = time.time()
        tell(key, repr(now))
        raise


@dramatiq.actor
def finish_in_time(key: str) -> str:
    """Finish within the grace period."""
    tell(key, "started")
    while (left := abort_requested()) is None:
        time.sleep(0.001)
    return f"in time: {0 < left <= 60_000}"


@dramatiq.actor
def protect(key: str) -> None:
    """Complete a critical section."""
    with shield():
        tell(key, "started")
        while abort_requested() is None:
            time.sleep(0.001)
        time.sleep(0.2)  # the request is visible a moment before it waits for the shield's end
        tell(key, "completed")
    tell(key, "not aborted")
