"""How many messages a second a worker processes whose actor does nothing, with one package or the other.

A process for each of them, all on one server, and they take turns of a fraction of a second: the pace of a machine
changes more slowly than that, so the ratios of one turn can be trusted where those of two runs cannot. But where its
memory happens to lie makes a process some percent faster or slower for as long as it lives, so after a few turns others
take over. ``cost.py`` and ``side_by_side.py`` measure with this.
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

#: How many messages a worker takes in advance, which are then what is measured first and are left out; and how many are
#: measured in a turn.
PREFETCH = 1_000
MESSAGES = {"RedisBroker": 1_000, "StubBroker": 2_000}
THREADS = 8
#: After how many turns a process makes room for another one.
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
    """Count those that only an event backend sends, of this package or of the one before."""
    mine = {"cmdstat_xread", "cmdstat_zscore", "cmdstat_zscan"}  # the latter two are in this package's scripts
    mine |= {"cmdstat_blpop", "cmdstat_exists", "cmdstat_getdel", "cmdstat_get", "cmdstat_lpop"}
    return sum(of["calls"] for name, of in client.info("commandstats").items() if name in mine)


def run(kind: str, variant: str, url: str) -> None:
    """For each line that is read, measure once, and print what came out."""
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
        for _ in range(THREADS):  # each holds a thread up, until all others are there
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
    os._exit(0)  # the worker's threads go on


@contextmanager
def timer(python: str, kind: str, variant: str, url: str) -> Iterator[Callable[[], Found]]:
    """Start the process of a variant; what is returned has it measure once."""
    words = [python, __file__, kind, variant, url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, text=True, **pipes) as process:  # type: ignore[call-overload]

        def measure() -> Found:
            print(file=process.stdin, flush=True)
            found: Found = json.loads(process.stdout.readline())
            return found

        yield measure


def measured(kind: str, variants: dict[str, str], url: str, turns: int) -> dict[str, list[Found]]:
    """Return what each turn of each variant says, by variant: the interpreter of each is given, too."""
    found: dict[str, list[Found]] = {variant: [] for variant in variants}
    for first in range(0, turns, TURNS_EACH):
        redis.Redis.from_url(url).flushall()
        with ExitStack() as stack:
            timers = {
                variant: stack.enter_context(timer(python, kind, variant, url)) for variant, python in variants.items()
            }
            for measure in timers.values():
                measure()  # to warm it up
            for number in range(first, min(first + TURNS_EACH, turns)):
                # From one to the next turn another one is first: it matters who was the one before.
                for variant in itertools.islice(itertools.cycle(variants), number, number + len(variants)):
                    found[variant].append(timers[variant]())
    return found


if __name__ == "__main__":
    run(*sys.argv[1:])
