"""Measure how long an abort takes in each kind of wait.

    python benchmarks/waits.py               measure with this interpreter, and print a line of JSON
    python benchmarks/waits.py --write PAGE  read such lines from standard input, and write their table into PAGE

`make waits` does both, with all interpreters that it finds.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import queue
import re
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

if __name__ == "__main__" and "--gevent" in sys.argv:
    from gevent import monkey

    monkey.patch_all()

import dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import AsyncIO

from dramatiq_abort import Abort, Abortable, abort, checkpoint, run_process, sleep
from dramatiq_abort.backends import StubBackend

#: The length of each wait without an abort, in seconds.
LIMIT = 1.0

#: The number of aborts of each wait, if the first has an effect.
REPETITIONS = 9

AT_ITS_END = "at its end"

NOT_AT_ALL = "not at all"

#: The rounds of the call into C, which takes about as long as the other waits.
ROUNDS = 3_000_000

MARK = "<!-- waits -->\n"
END_MARK = "<!-- /waits -->\n"


class Wait:
    """The objects that one wait uses, and a method that ends it."""

    def __init__(self) -> None:
        self.over: list[bool] = []
        self.near, self.far = socket.socketpair()
        self.reading, self.writing = os.pipe()
        self.lock = threading.Lock()
        self.lock.acquire()
        self.queue: queue.Queue[None] = queue.Queue()
        self.event = threading.Event()
        self.future: Future[None] = Future()
        self.thread = threading.Thread(target=self.event.wait, daemon=True)
        self.thread.start()

    def end(self) -> None:
        """End the wait, of whichever kind it is."""
        self.over.append(True)
        self.far.send(b"x")
        os.write(self.writing, b"x")
        self.lock.release()
        self.queue.put(None)
        self.event.set()
        self.future.set_result(None)

    def close(self) -> None:
        self.thread.join()
        self.near.close()
        self.far.close()
        os.close(self.reading)
        os.close(self.writing)


def loop(wait: Wait) -> None:
    while not wait.over:
        pass


def compute_in_c(_: Wait) -> None:
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", ROUNDS)


def checkpoints(wait: Wait) -> None:
    while not wait.over:
        checkpoint()


def wait_in_steps(wait: Wait) -> None:
    while not wait.event.wait(0.01):
        pass


async def aio_to_thread(wait: Wait) -> None:
    await asyncio.to_thread(wait.event.wait)


async def aio_lock(_: Wait) -> None:
    lock = asyncio.Lock()
    await lock.acquire()
    await asyncio.wait_for(lock.acquire(), LIMIT)


async def aio_stream(wait: Wait) -> None:
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=os.dup(wait.near.fileno())))
    try:
        await reader.read(1)
    finally:
        writer.close()


NAP = f"import time; time.sleep({LIMIT})"

THREADS: dict[str, Any] = {
    "a loop in Python": loop,
    "`time.sleep()`": lambda wait: time.sleep(LIMIT),
    "`socket.recv()`": lambda wait: wait.near.recv(1),
    "`select.select()`": lambda wait: select.select([wait.near], [], []),
    "`os.read()` of a pipe": lambda wait: os.read(wait.reading, 1),
    "`Lock.acquire()`": lambda wait: wait.lock.acquire(),
    "`Event.wait()`": lambda wait: wait.event.wait(),
    "`Event.wait(0.01)` in a loop": wait_in_steps,
    "`Queue.get()`": lambda wait: wait.queue.get(),
    "`Future.result()`": lambda wait: wait.future.result(),
    "`Thread.join()`": lambda wait: wait.thread.join(),
    "`subprocess.run()`": lambda wait: subprocess.run([sys.executable, "-c", NAP], check=True),
    "a long call into C (`hashlib`)": compute_in_c,
    "`dramatiq_abort.run_process()`": lambda wait: run_process([sys.executable, "-c", NAP]),
    "`dramatiq_abort.sleep()`": lambda wait: sleep(int(LIMIT * 1000)),
    "`dramatiq_abort.checkpoint()` in a loop": checkpoints,
}

COROUTINES: dict[str, Any] = {
    "`asyncio.sleep()`": lambda wait: asyncio.sleep(LIMIT),
    "`asyncio.Event.wait()`": lambda wait: asyncio.wait_for(asyncio.Event().wait(), LIMIT),
    "`asyncio.Lock.acquire()`": aio_lock,
    "`asyncio.Queue.get()`": lambda wait: asyncio.wait_for(asyncio.Queue[None]().get(), LIMIT),
    "`asyncio.gather()`": lambda wait: asyncio.gather(asyncio.sleep(LIMIT), asyncio.sleep(LIMIT)),
    "`asyncio.to_thread()`": aio_to_thread,
    "an asyncio stream": aio_stream,
}

GREENLETS: dict[str, Any] = {
    "gevent: `time.sleep()`": THREADS["`time.sleep()`"],
    "gevent: `socket.recv()`": THREADS["`socket.recv()`"],
    "gevent: `select.select()`": THREADS["`select.select()`"],
    "gevent: `Lock.acquire()`": THREADS["`Lock.acquire()`"],
    "gevent: `Event.wait()`": THREADS["`Event.wait()`"],
    "gevent: `Queue.get()`": THREADS["`Queue.get()`"],
    "gevent: a loop in Python": lambda wait: loop_for(LIMIT),
}


def loop_for(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


class Bench:
    """Measures aborts on a worker."""

    def __init__(self, kinds: dict[str, Any], *, is_async: bool) -> None:
        broker = StubBroker()
        broker.fail_fast_default = False
        if is_async:
            broker.add_middleware(AsyncIO())
        self.abortable = Abortable(backend=StubBackend())
        broker.add_middleware(self.abortable)
        dramatiq.set_broker(broker)
        self.kinds = kinds
        self.started, self.ended = threading.Event(), threading.Event()
        self.raised_at = 0.0
        self.wait = Wait()

        @dramatiq.actor(actor_name="task", max_retries=0)
        def task(kind: str) -> None:
            self.started.set()
            try:
                self.kinds[kind](self.wait)
                checkpoint()
            except Abort:
                self.raised_at = time.monotonic()
            finally:
                self.ended.set()

        @dramatiq.actor(actor_name="coroutine", max_retries=0)
        async def coroutine(kind: str) -> None:
            asyncio.get_running_loop().call_soon(self.started.set)
            try:
                await self.kinds[kind](self.wait)
            except Abort:
                self.raised_at = time.monotonic()
            finally:
                self.ended.set()

        self.actor: Any = coroutine if is_async else task
        self.worker = dramatiq.Worker(broker, worker_timeout=10, worker_threads=1)
        self.worker.start()

    def measure(self, kind: str) -> float | str:
        """Return the median in milliseconds, or a description of the abort's effect."""
        times = []
        for _ in range(REPETITIONS):
            passed = self.once(kind)
            if passed is None:
                return NOT_AT_ALL
            if passed > 0.2 * LIMIT:
                return AT_ITS_END
            times.append(passed * 1000)
        return round(statistics.median(times), 2)

    def once(self, kind: str) -> float | None:
        self.wait = Wait()
        self.started.clear()
        self.ended.clear()
        self.raised_at = 0.0
        message = self.actor.send(kind)
        self.started.wait()
        time.sleep(0.1)  # the task is waiting now
        timer = threading.Timer(0.8 * LIMIT, self.wait.end)
        timer.start()
        before = time.monotonic()
        abort(message.message_id)
        self.ended.wait()
        timer.cancel()
        timer.join()
        if not self.wait.over:
            self.wait.end()
        self.wait.close()
        return self.raised_at - before if self.raised_at else None

    def measure_all(self) -> dict[str, float | str]:
        found = {kind: self.measure(kind) for kind in self.kinds}
        self.worker.stop()
        return found


def measure_here() -> dict[str, float | str]:
    found = Bench(THREADS, is_async=False).measure_all() | Bench(COROUTINES, is_async=True).measure_all()
    try:
        import gevent  # noqa: F401
    except ImportError:
        return found | dict.fromkeys(GREENLETS, "")
    words = [sys.executable, __file__, "--gevent"]
    output = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    greenlets: dict[str, float | str] = json.loads(output)
    return found | greenlets


def name_of_this() -> str:
    version = ".".join(platform.python_version_tuple()[:2])
    return f"PyPy {version}" if platform.python_implementation() == "PyPy" else version


def table(columns: dict[str, dict[str, float | str]]) -> str:
    names = sorted(
        columns, key=lambda name: (name.startswith("PyPy"), [int(part) for part in name.split()[-1].split(".")])
    )
    lines = ["| ms, at the median | " + " | ".join(names) + " |", "|---" + "|---:" * len(names) + "|"]
    for kind in [*THREADS, *COROUTINES, *GREENLETS]:
        cells = [columns[name].get(kind, "") for name in names]
        lines.append(f"| {kind} | " + " | ".join(c if isinstance(c, str) else f"{c:.1f}" for c in cells) + " |")
    return "\n".join(lines) + "\n"


def write(page: Path) -> None:
    """Write the table of the measurements on standard input between the page's marks."""
    columns: dict[str, dict[str, float | str]] = {}
    for line in sys.stdin:
        sys.stderr.write(line if not line.startswith("{") else "")
        if line.startswith("{"):
            columns |= json.loads(line)
    if not columns:
        sys.exit("nothing was measured")
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(MARK)
    _, _, after = rest.partition(END_MARK)
    page.write_text(before + MARK + table(columns) + END_MARK + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=re.sub(r"\n.*", "", __doc__ or ""))
    parser.add_argument("--gevent", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, metavar="PAGE")
    options = parser.parse_args()
    if options.write:
        write(options.write)
    elif options.gevent:
        print(json.dumps(Bench(GREENLETS, is_async=False).measure_all()))
    else:
        print(json.dumps({name_of_this(): measure_here()}))


if __name__ == "__main__":
    main()
