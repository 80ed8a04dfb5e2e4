"""Measure how many messages of an actor that does nothing a worker processes per second, for each variant.

Each variant has a process, all use one server, and they take turns of a fraction of a second: the speed of a machine
changes more slowly than that, so ratios within a turn are reliable, unlike those of two runs. But its memory layout
makes a process some percent faster or slower for its whole life, so new processes take over after a few turns.
``cost.py`` and ``side_by_side.py`` use this.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker

import dramatiq_abort
from dramatiq_abort.backends import RedisBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The number of messages that a worker prefetches: the measurement excludes that number at its beginning. And the
#: number of messages measured per turn.
PREFETCH = 1_000
MESSAGES = {"RedisBroker": 1_000, "StubBroker": 2_000}
THREADS = 8
#: The number of turns after which a new process takes over.
TURNS_EACH = 5

Found = dict[str, float]


def make_broker(kind: str, variant: str, url: str, *, bare: bool = False) -> dramatiq.Broker:
    broker: dramatiq.Broker = StubBroker() if kind == "StubBroker" else RedisBroker(url=url, namespace=variant)
    for middleware in [*broker.middleware] if bare else ():
        broker.middleware.remove(middleware)
    if variant != "alone":
        broker.add_middleware(dramatiq_abort.Abortable(backend=RedisBackend.from_url(url)))
    dramatiq.set_broker(broker)
    return broker


def commands(client: redis.Redis) -> int:
    """Count the commands that only an event backend sends, of this package or of dramatiq-abort 1.2."""
    mine = {"cmdstat_xread", "cmdstat_zscore", "cmdstat_zscan"}  # the latter two are in this package's scripts
    mine |= {"cmdstat_blpop", "cmdstat_exists", "cmdstat_getdel", "cmdstat_get", "cmdstat_lpop"}
    return sum(of["calls"] for name, of in client.info("commandstats").items() if name in mine)


def run(kind: str, variant: str, url: str) -> None:
    """Measure once for each line of standard input, and print the result."""
    os.environ["dramatiq_queue_prefetch"] = str(PREFETCH)  # noqa: SIM112 - dramatiq's own
    broker = make_broker(kind, variant, url)
    client = redis.Redis.from_url(url, socket_timeout=60)
    last = PREFETCH + MESSAGES[kind]
    is_held, is_open, done = threading.Semaphore(0), threading.Event(), threading.Event()
    numbers = itertools.count(1)
    times: list[tuple[float, float]] = []

    @dramatiq.actor
    def gate() -> None:
        is_held.release()
        is_open.wait()

    @dramatiq.actor
    def task() -> None:
        number = next(numbers)
        if number in {PREFETCH, last}:
            times.append((time.perf_counter(), time.process_time()))
        if number == last:
            done.set()

    dramatiq.Worker(broker, worker_threads=THREADS).start()
    for _ in sys.stdin:
        numbers = itertools.count(1)
        times.clear()
        is_open.clear()
        done.clear()
        for _ in range(THREADS):  # each blocks a thread until all of them are blocked
            gate.send()
        for _ in range(THREADS):
            is_held.acquire()
        for _ in range(last):
            task.send()
        before = commands(client)
        is_open.set()
        done.wait()
        sent = commands(client) - before
        (began, began_used), (ended, ended_used) = times
        found = {
            "throughput": MESSAGES[kind] / (ended - began),
            "used": MESSAGES[kind] / (ended_used - began_used),
            "commands": sent / last,
        }
        print(json.dumps(found), flush=True)
    os._exit(0)  # the worker's threads keep running


@contextmanager
def timer(python: str, kind: str, variant: str, url: str) -> Iterator[Callable[[], Found]]:
    """Start the process of a variant, and return a function that has it measure once."""
    words = [python, __file__, kind, variant, url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, text=True, **pipes) as process:  # type: ignore[call-overload]

        def measure() -> Found:
            print(file=process.stdin, flush=True)
            found: Found = json.loads(process.stdout.readline())
            return found

        yield measure


def measured(kind: str, variants: dict[str, str], url: str, turns: int) -> dict[str, list[Found]]:
    """Return the results of all turns by variant, given the interpreter of each variant."""
    found: dict[str, list[Found]] = {variant: [] for variant in variants}
    for first in range(0, turns, TURNS_EACH):
        redis.Redis.from_url(url).flushall()
        with ExitStack() as stack:
            timers = {
                variant: stack.enter_context(timer(python, kind, variant, url)) for variant, python in variants.items()
            }
            for measure in timers.values():
                measure()  # warm-up
            for number in range(first, min(first + TURNS_EACH, turns)):
                # Each turn starts with another variant, because the preceding variant affects the result.
                for variant in itertools.islice(itertools.cycle(variants), number, number + len(variants)):
                    found[variant].append(timers[variant]())
    return found


if __name__ == "__main__":
    run(*sys.argv[1:])
