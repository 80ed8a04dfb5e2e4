"""A storm of aborts over real workers: ``python storm.py [ABORTS] [--naive] [--computing] [--core cython|python]``.

Short messages of many kinds run on a real worker with eight threads, and each is aborted at about the moment of its
end.
Everything that must never happen is counted, and the status is 1 if anything of it did. ``--naive`` aborts them the way
that does not work, to show that the counters count; it wedges soon, unless ``--computing`` leaves out what uses locks.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import io
import itertools
import logging
import os
import queue
import random
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Callbacks, Middleware, Pipelines, Retries, ShutdownNotifications, TimeLimit
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend as StubResults
from naive import NaiveAbortable

from dramatiq_abort import Abort, Abortable, abort, interrupt
from dramatiq_abort.backends import StubBackend

MESSAGES = 400  # of each round
THREADS = 8
PATIENCE = 10  # seconds without progress, before it is said that the process has wedged

COUNTERS = [
    "Abort raised outside of the function",
    "hooks that ran twice, or not at all",
    "worker threads lost",
    "messages completed and reported aborted",
    "messages aborted and run again",
    "messages never acknowledged",
    "locks left locked",
    "processes wedged",
    "messages failed by something else",
]

log = logging.Logger("storm")
handler = logging.StreamHandler(io.StringIO())
log.addHandler(handler)
shared: queue.Queue[int] = queue.Queue()
event, semaphore, lock = threading.Event(), threading.Semaphore(4), threading.Lock()
executor = ThreadPoolExecutor(2)
modules, numbers = threading.local(), itertools.count()


@contextmanager
def held():
    with lock:
        yield


def end_in_a_loop(steps):
    for step in range(steps):
        abs(step)


def end_in_a_c_call(steps):
    end_in_a_loop(steps)
    time.sleep(0)


def end_in_a_finally(steps):
    try:
        end_in_a_loop(steps // 2)
    finally:
        end_in_a_loop(steps // 2)


def end_in_nested_withs(steps):
    with held():
        end_in_a_loop(steps // 100)
    with semaphore, event._cond:
        end_in_a_loop(steps // 100)


def end_in_a_generator(steps):
    sum(number for number in range(steps))


def log_lines(steps):
    for _ in range(steps // 100):
        log.warning("a line of %s", "text")


def use_a_queue(steps):
    for _ in range(steps // 100):
        shared.put(1)
        try:
            shared.get(timeout=0.001)
        except queue.Empty:
            pass


def use_events_and_semaphores(steps):
    for _ in range(steps // 200):
        with semaphore:
            event.wait(0.0001)
        event.set()
        event.clear()


def use_futures(steps):
    for _ in range(steps // 500):
        executor.submit(int).result(timeout=10)


def import_modules(steps):
    # Each thread its own: two that import one module while a third forgets it would fail by themselves.
    if not hasattr(modules, "name"):
        modules.name = f"storm_module_{next(numbers) % THREADS}"
    name = modules.name
    sys.modules.pop(name, None)
    importlib.import_module(name)


def raise_something_else(steps):
    try:
        end_in_a_loop(steps)
    except Abort:
        raise ValueError from None


COMPUTING = [end_in_a_loop, end_in_a_c_call, end_in_a_finally, end_in_a_generator, raise_something_else]
KINDS = [
    *COMPUTING,
    end_in_nested_withs,
    log_lines,
    use_a_queue,
    use_events_and_semaphores,
    use_futures,
    import_modules,
]


class Probe(Middleware):
    """Writes down what dramatiq does with each message."""

    def __init__(self):
        self.calls = {name: Counter() for name in ("before", "after", "done")}
        self.results, self.exceptions = {}, {}

    def before_process_message(self, broker, message):
        self.calls["before"][message.message_id] += 1

    def after_process_message(self, broker, message, *, result=None, exception=None):
        self.calls["after"][message.message_id] += 1
        if exception is None:
            self.results[message.message_id] = result
        else:
            self.exceptions[message.message_id] = exception

    def after_skip_message(self, broker, message):
        self.after_process_message(broker, message)

    def after_ack(self, broker, message):
        self.calls["done"][message.message_id] += 1

    after_nack = after_ack


def was_raised_outside(exception):
    """Whether an Abort came up in dramatiq's own code: inside, the last frames are the actor's or what it called."""
    names = [frame.name for frame in traceback.extract_tb(exception.__traceback__)]
    return isinstance(exception, Abort) and not {"task", "call"} & set(names)


def run_a_round(number, naive, kinds, rng):
    """Run and abort MESSAGES messages, and return what happened."""
    counts = Counter()
    probe, aborter = Probe(), NaiveAbortable() if naive else Abortable(backend=StubBackend())
    middleware = [TimeLimit(), ShutdownNotifications(), Callbacks(), Pipelines(), Retries(min_backoff=1, max_backoff=1)]
    middleware += [Results(backend=StubResults(), store_results=True), probe]
    middleware.insert(number % (len(middleware) + 1), aborter)
    broker = StubBroker(middleware)
    dramatiq.set_broker(broker)
    calls, begun = Counter(), deque()

    @dramatiq.actor(max_retries=2)
    def task(index, kind, steps):
        calls[index] += 1
        begun.append(index)
        kinds[kind](steps)
        return index

    messages = [task.send(index, index % len(kinds), rng.randrange(4_000)) for index in range(MESSAGES)]
    unraisable = []
    threading.excepthook = lambda error: unraisable.append(error.exc_type)
    worker = dramatiq.Worker(broker, worker_timeout=20, worker_threads=THREADS)
    worker.start()
    progress, deadline = -1, time.monotonic() + PATIENCE
    while sum(probe.calls["done"].values()) < MESSAGES and any(thread.is_alive() for thread in worker.workers):
        while begun:
            message_id = messages[begun.pop()].message_id
            aborter.abort(message_id) if naive else abort(message_id)
            counts["aborts"] += 1
        if sum(probe.calls["done"].values()) != progress:
            progress, deadline = sum(probe.calls["done"].values()), time.monotonic() + PATIENCE
        if time.monotonic() > deadline:
            counts["processes wedged"] += 1
            faulthandler.dump_traceback()
            break
    counts["worker threads lost"] = sum(not thread.is_alive() for thread in worker.workers)
    if not counts["processes wedged"]:
        worker.stop(timeout=5_000)
    ids = [message.message_id for message in messages]
    counts["landed"] = sum(isinstance(exception, Abort) for exception in list(probe.exceptions.values()))
    counts["Abort raised outside of the function"] = sum(map(was_raised_outside, list(probe.exceptions.values())))
    counts["Abort raised outside of the function"] += len(unraisable)
    counts["hooks that ran twice, or not at all"] = sum(
        not probe.calls["before"][id_] == probe.calls["after"][id_] == 1 for id_ in ids
    )
    counts["messages completed and reported aborted"] = len(probe.results.keys() & probe.exceptions.keys())
    counts["messages failed by something else"] = sum(
        not isinstance(exception, Abort) for exception in list(probe.exceptions.values())
    )
    counts["messages aborted and run again"] = sum(count > 1 for count in calls.values())
    counts["messages never acknowledged"] = sum(not probe.calls["done"][id_] for id_ in ids)
    locks = [handler.lock, shared.mutex, event._cond, semaphore._cond, lock]
    for each in locks:
        if each.acquire(timeout=1):
            each.release()
        else:
            counts["locks left locked"] += 1
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("aborts", nargs="?", type=int, default=10_000)
    parser.add_argument("--naive", action="store_true")
    parser.add_argument("--core", choices=["cython", "python"], default=interrupt.IMPLEMENTATION)
    parser.add_argument("--computing", action="store_true", help="only messages that use no locks")
    options = parser.parse_args()
    if options.core != interrupt.IMPLEMENTATION:
        interrupt.Scope = importlib.import_module(
            f"dramatiq_abort._interrupt{'_py' * (options.core == 'python')}"
        ).Scope
    logging.disable(logging.CRITICAL)
    log.manager = logging.Manager(log)  # one that is not disabled
    sys.setswitchinterval(1e-5)
    with tempfile.TemporaryDirectory() as directory:
        for number in range(THREADS):
            Path(directory, f"storm_module_{number}.py").write_text(
                "import logging\nVALUE = [str(n) for n in range(50)]\n"
            )
        sys.path.insert(0, directory)
        total, rng, started, number = Counter(), random.Random(1), time.monotonic(), 0
        while total["aborts"] < options.aborts and not total["processes wedged"]:
            total += run_a_round(number, options.naive, COMPUTING if options.computing else KINDS, rng)
            number += 1
        seconds = time.monotonic() - started
    way = "the naive way" if options.naive else f"the {options.core} core"
    print(
        f"Python {sys.version.split()[0]}, {way}: {total['aborts']} aborts in {seconds:.0f} s, {total['landed']} raised"
    )
    for counter in COUNTERS:
        print(f"  {counter:<42} {total[counter]:>8}")
    sys.stdout.flush()
    os._exit(any(total[counter] for counter in COUNTERS))  # threads that have wedged are left behind


if __name__ == "__main__":
    main()
