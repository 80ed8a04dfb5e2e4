"""A storm of aborts over real workers: ``python storm.py [ABORTS] [--core cython|python] [--naive] [--rabbitmq]``.

Short messages of many kinds run on a real worker with eight threads, and each is aborted around the moment when it
ends, or for some, when it begins. Others wait until an abort and an exception from another source, sent at about the
same moment, have been raised in them. A few would last for a second, in code where an abort is easily lost, and
some send messages themselves, with ``--rabbitmq`` also on a RabbitMQ, if the machine has one. All violations of the
guarantees are counted, and the exit status is 1 if there are any. ``--naive`` uses the implementation that does not
work, to show that the counters count.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import logging
import math
import os
import random
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, deque
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import (
    AgeLimit,
    AsyncIO,
    Callbacks,
    Middleware,
    Pipelines,
    Retries,
    Shutdown,
    ShutdownNotifications,
    TimeLimitExceeded,
)
from dramatiq.results import ResultFailure, ResultMissing, Results
from dramatiq.results.backends import StubBackend as StubResults
from naive import NaiveAbortable
from storm_messages import (
    COMPUTING,
    COROUTINES,
    KINDS,
    LASTING,
    LOCKS,
    NOT_BY_THE_PURE_CORE,
    THREADS,
    WAYS_TO_WAIT,
    Race,
    dropped,
    end_in_a_loop,
    log,
    run_callbacks,
    time_limit,
)
from storm_rabbitmq import rabbitmq

from dramatiq_abort import Abort, Abortable, OutcomeState, abort, interrupt
from dramatiq_abort._core import blocking_calls

MESSAGES = 800  # per round

OUTSIDE = "exceptions outside of the function"
HOOKS = "hooks that ran twice, or not at all"
CALLBACKS = "callbacks that ran twice, or not at all"
THREADS_LOST = "worker threads lost"
BOTH = "messages completed and reported aborted"
STORED = "results other than the outcome"
ELSE = "messages failed by something else"
AGAIN = "messages aborted and run again"
UNACKNOWLEDGED = "messages never acknowledged, or twice"
OTHERS = "exceptions of others lost"
ABORTS = "aborts lost to exceptions of others"
LATE = "aborts that did not come in a second"
ENQUEUED = "sends whose hooks were cut off"
LOST = "messages lost on RabbitMQ"
TOLD = "outcomes told twice, not at all, or wrong"
LOCKED = "locks left locked"
WEDGED = "processes wedged"
COUNTERS = [
    *(OUTSIDE, HOOKS, CALLBACKS, THREADS_LOST, BOTH, STORED, ELSE, AGAIN, UNACKNOWLEDGED, OTHERS, ABORTS),
    *(LATE, ENQUEUED, LOST, TOLD, LOCKED, WEDGED),
]

#: Exceptions that ended a thread.
uncaught = []


class Way(NamedTuple):
    """An implementation of aborts."""

    name: str
    middleware: type[Middleware]
    #: The time without progress after which the round ends, in seconds.
    patience: float
    #: The time that a message waits for two exceptions after both were sent, in seconds.
    race_patience: float
    #: The counters that may be nonzero.
    not_promised: frozenset[str] = frozenset()
    #: The work of the messages that last for a second.
    lasting: tuple = tuple(LASTING)


WAYS = {
    "cython": Way("the compiled core", Abortable, patience=30, race_patience=20),
    # This core cannot read the slot that all exceptions from outside share.
    "python": Way(
        "the pure-Python core",
        Abortable,
        patience=10,
        race_patience=3,
        not_promised=frozenset({OTHERS, ABORTS}),
        lasting=tuple(kind for kind in LASTING if kind not in NOT_BY_THE_PURE_CORE),
    ),
    "naive": Way("the naive way", NaiveAbortable, patience=1.5, race_patience=0.2, lasting=(run_callbacks,)),
}


class Probe(Middleware):
    """Records dramatiq's calls for each message."""

    def __init__(self):
        self.sent, self.before, self.after, self.done = [], [], [], []
        self.results, self.exceptions, self.skipped = {}, {}, set()
        self.begun = deque()
        self.enqueued = []

    def before_enqueue(self, broker, message, delay):  # after it, the message may have ended already
        self.sent.append(message.message_id)
        end_in_a_loop(50)

    def after_enqueue(self, broker, message, delay):
        end_in_a_loop(50)
        self.enqueued.append(message.message_id)

    def before_process_message(self, broker, message):
        self.before.append(message.message_id)
        if message.options.get("is_early"):
            self.begun.append(message.message_id)

    def after_process_message(self, broker, message, *, result=None, exception=None):
        self.after.append(message.message_id)
        if exception is None:
            self.results[message.message_id] = result
        else:
            self.exceptions[message.message_id] = exception

    def after_skip_message(self, broker, message):
        self.after.append(message.message_id)
        self.skipped.add(message.message_id)

    def after_ack(self, broker, message):
        self.done.append(message.message_id)

    after_nack = after_ack


class Round:
    """A number of messages, of all kinds in turn, on their own worker."""

    def __init__(self, way, kinds, rng, rabbitmq):
        self.way, self.kinds, self.rng, self.rabbitmq = way, kinds, rng, rabbitmq
        self.told = []
        self.probe, self.aborter = Probe(), way.middleware(on_outcome=self.told.append)
        self.runs, self.callbacks, self.asked = Counter(), {}, set()
        self.races, self.racing = {}, deque()
        middleware = [AgeLimit(), time_limit, ShutdownNotifications(), Callbacks(), Pipelines(), AsyncIO(), self.probe]
        middleware += [Retries(min_backoff=1, max_backoff=1), Results(backend=StubResults(), store_results=True)]
        middleware.append(self.aborter)
        rng.shuffle(middleware)
        self.broker = StubBroker(middleware)
        dramatiq.set_broker(self.broker)
        actors = self._declare_actors()
        self.messages = [self._message(*actors, index) for index in range(MESSAGES)]
        self.worker = dramatiq.Worker(self.broker, worker_timeout=20, worker_threads=THREADS)

    def _declare_actors(self):  # noqa: C901 - one after the other
        @dramatiq.actor
        def succeeded(message, result):
            self.callbacks.setdefault(message["message_id"], []).append("succeeded")

        @dramatiq.actor
        def failed(message, error):
            self.callbacks.setdefault(message["message_id"], []).append(error["type"])

        @dramatiq.actor(max_retries=2, on_success="succeeded", on_failure="failed")
        def task(index, kind, steps):
            self.runs[index] += 1
            self.probe.begun.append(self.messages[index].message_id)
            self.kinds[kind](steps)
            return index

        @dramatiq.actor(max_retries=2, on_success="succeeded", on_failure="failed")
        async def awaiting(index, kind, steps):
            self.runs[index] += 1
            self.probe.begun.append(self.messages[index].message_id)
            await COROUTINES[kind](steps)
            return index

        @dramatiq.actor(max_retries=2, on_success="succeeded", on_failure="failed")
        def race(index):
            self.runs[index] += 1
            last = self.races[index].run(lambda: self.racing.append(index))
            if last is not None and index % 2:
                raise last
            return index

        @dramatiq.actor(max_retries=2, on_success="succeeded", on_failure="failed")
        def lasting(index, kind):
            self.runs[index] += 1
            self.probe.begun.append(self.messages[index].message_id)
            self.way.lasting[kind]()
            return index

        @dramatiq.actor
        def sent():
            pass

        @dramatiq.actor(max_retries=2, on_success="succeeded", on_failure="failed")
        def sending(index):
            self.runs[index] += 1
            self.probe.begun.append(self.messages[index].message_id)
            for _ in range(3):
                sent.send()
                if self.rabbitmq is not None:
                    self.rabbitmq.send()
            return index

        return task, awaiting, race, lasting, sending

    def _message(self, task, awaiting, race, lasting, sending, index):
        if index % 25 == 0:
            return self._race_message(race, index)
        if index % 25 == 7:
            return lasting.message(index, index // 25 % len(self.way.lasting))
        if index % 25 == 18:
            return sending.message(index)
        kinds = self.kinds
        if index % 5 == 3 and kinds is not COMPUTING:
            task, kinds = awaiting, COROUTINES
        arguments = index, index % len(kinds), self.rng.randrange(4_000)
        return task.message_with_options(args=arguments, is_early=index % 10 == 0)

    def _race_message(self, race, index):
        other = self.rng.choice([TimeLimitExceeded, Shutdown])
        self.races[index] = Race(self.rng.choice(WAYS_TO_WAIT), other, self.way.race_patience)
        return race.message(index)

    def run(self):
        """Abort all messages that begin until there is no more progress, and return the counts."""
        for message in self.messages:
            self.broker.enqueue(message)
        self.worker.start()
        done, since = 0, time.monotonic()
        while has_work := len(self.probe.done) < len(self.probe.sent):
            self._abort_what_has_begun()
            if done != len(self.probe.done):
                done, since = len(self.probe.done), time.monotonic()
            elif time.monotonic() - since > self.way.patience:
                break
        counts = self._counts()
        counts[THREADS_LOST] = sum(not thread.is_alive() for thread in self.worker.workers)
        counts[WEDGED] = has_work and any(map(is_at_work, self.worker.workers))
        queues = [*self.broker.queues.values(), self.worker.work_queue]
        counts[LOCKED] = sum(
            is_locked(lock, self.way.patience / 2) for lock in LOCKS + [queue.mutex for queue in queues]
        )
        if has_work:  # these threads may never end
            faulthandler.dump_traceback()
            for thread in self.worker.workers:
                thread.stop()
        else:
            self.worker.stop(timeout=5_000)
        if self.rabbitmq is not None:
            cut_off, counts[LOST] = self.rabbitmq.count(self.way.patience / 3)
            counts[ENQUEUED] += cut_off
        counts[TOLD] = self._count_of_wrong_outcomes()
        return counts

    def _abort_what_has_begun(self):
        while self.probe.begun:
            self._abort(self.probe.begun.pop())  # the most recently started message that is left
        while self.racing:
            index = self.racing.pop()
            self.races[index].start(partial(self._abort, self.messages[index].message_id), self.rng)

    def _abort(self, message_id):
        self.asked.add(message_id)
        if self.way.middleware is NaiveAbortable:
            self.aborter.abort(message_id)
        else:
            abort(message_id)

    def _counts(self):
        probe, counts = self.probe, Counter()
        counts["aborts"] = len(self.asked)
        counts["raised"] = sum(isinstance(exception, Abort) for exception in probe.exceptions.values())
        counts[OUTSIDE] = len(uncaught) + sum(issubclass(type_, Abort) for _, type_ in dropped)
        uncaught.clear()
        dropped.clear()
        counts[BOTH] = len(probe.results.keys() & probe.exceptions.keys())
        counts[AGAIN] = sum(runs > 1 for runs in self.runs.values())
        sent, before, after, done = map(Counter, (probe.sent, probe.before, probe.after, probe.done))
        counts[UNACKNOWLEDGED] = sum(abs(sent[id_] - done[id_]) for id_ in sent)
        counts[ENQUEUED] = len(Counter(probe.sent) - Counter(probe.enqueued))
        # Middleware after the one that skips a message sees only the skip.
        counts[HOOKS] = sum(after[id_] != (id_ in probe.skipped or before[id_]) for id_ in sent)
        for index, message in enumerate(self.messages):
            if message.message_id in done:
                counts.update(self._counts_of(index, message))
        for race in self.races.values():
            if race.deadline < math.inf:  # both have been sent
                counts["races"] += 1
                lost = {Abort, race.other} - race.seen
                counts[OTHERS] += race.other in lost
                counts[ABORTS] += Abort in lost
                if lost:
                    print(f"{race.wait.__name__}, with {race.other.__name__}: lost {lost}", file=sys.stderr)
        return counts

    def _count_of_wrong_outcomes(self):
        """Return the number of messages whose reported outcome is wrong, after all reports."""
        probe, told = self.probe, {}
        for outcome in self.told:
            told.setdefault(outcome.message_id, []).append((outcome.state, outcome.exception))
        count = len(told.keys() - self.asked)
        for id_ in self.asked:
            exception, expected = probe.exceptions.get(id_), (OutcomeState.COMPLETED, None)
            if id_ in probe.skipped:
                expected = (OutcomeState.SKIPPED, None)
            elif exception is not None:
                failure = exception.failure if isinstance(exception, Abort) else type(exception).__name__
                expected = (OutcomeState.ABORTED if failure is None else OutcomeState.FAILED, failure)
            elif id_ not in told:  # it had completed, and its worker stopped before receiving the request
                continue
            if told.get(id_) != [expected]:
                print(f"{id_}: {expected}, told {told.get(id_)}", file=sys.stderr)
                count += 1
        return count

    def _counts_of(self, index, message):
        """Return the violations of an acknowledged message."""
        id_ = message.message_id
        exception = self.probe.exceptions.get(id_)
        stored, callbacks = index, ["succeeded"]
        if id_ in self.probe.skipped:
            stored, callbacks = None, []
        elif exception is not None:
            stored = type(exception).__name__
            callbacks = [stored]
        is_abort = isinstance(exception, Abort)
        # An abort that came before the beginning is raised instead of the call.
        is_outside = is_abort and (id_ not in self.asked or (self.runs[index] and not came_up_inside(exception)))
        if is_outside or not (is_abort or exception is None):
            traceback.print_exception(type(exception), exception, exception.__traceback__)
        return {
            CALLBACKS: self.callbacks.get(id_, []) != callbacks,
            STORED: stored_result_of(message) != stored,
            LATE: message.actor_name == "lasting" and exception is None and id_ in self.asked,
            ELSE: exception is not None and not is_abort,
            OUTSIDE: is_outside,
        }


def stored_result_of(message):
    """Return what the result backend has: the result, or the type of the failure."""
    try:
        return message.get_result()
    except ResultFailure as failure:
        return failure.orig_exc_type
    except ResultMissing:
        return "nothing"


def came_up_inside(exception):
    """Return whether an exception, or its cause, was raised in an actor's function."""
    tracebacks = [error.__traceback__ for error in (exception, exception.__cause__) if error is not None]
    actors = {"task", "awaiting", "race", "lasting", "sending"}
    return any(frame.name in actors for each in tracebacks for frame in traceback.extract_tb(each))


def is_at_work(thread):
    """Return whether a worker thread is processing a message."""
    frame = sys._current_frames().get(thread.ident)
    return frame is not None and any(
        each.f_code.co_name == "process_message" for each, _ in traceback.walk_stack(frame)
    )


def is_locked(lock, patience):
    if lock.acquire(timeout=patience):
        lock.release()
        return False
    return True


def storm(way, aborts, total, rabbitmq):
    """Run rounds up to a number of aborts, and count what happened."""
    rng = random.Random(1)
    is_naive = way.middleware is NaiveAbortable
    while total["aborts"] < aborts and (is_naive or not total[WEDGED]):
        # The naive implementation hangs as soon as messages use locks, which is shown last.
        total.update(Round(way, COMPUTING if is_naive else KINDS, rng, rabbitmq).run())
    if is_naive:
        total.update(Round(way, KINDS, rng, rabbitmq).run())


def watch(storming, patience, total):
    """Wait until the storm is over, or its own thread hangs."""
    aborts = -1
    while storming.is_alive() and aborts < total["aborts"]:
        aborts = total["aborts"]
        storming.join(patience)
    if storming.is_alive():
        faulthandler.dump_traceback()
        total[WEDGED] += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("aborts", nargs="?", type=int, default=10_000)
    parser.add_argument("--core", choices=["cython", "python"], default=interrupt.IMPLEMENTATION)
    parser.add_argument("--naive", action="store_true")
    parser.add_argument("--rabbitmq", action="store_true")
    options = parser.parse_args()
    way = WAYS["naive" if options.naive else options.core]
    if options.core != interrupt.IMPLEMENTATION:
        name = "_core.interrupt_py" if options.core == "python" else "_interrupt"
        interrupt.Scope = importlib.import_module(f"dramatiq_abort.{name}").Scope
        interrupt.IMPLEMENTATION = options.core  # chooses the hooks when the first worker boots
    logging.disable(logging.CRITICAL)
    log.manager = logging.Manager(log)  # a logger that is not disabled
    threading.excepthook = uncaught.append
    sys.unraisablehook = lambda error: dropped.append((threading.get_ident(), error.exc_type))
    time_limit.after_process_boot(None)
    blocking_calls.install()  # here, the workers are not started by the main thread
    sys.setswitchinterval(1e-5)
    with tempfile.TemporaryDirectory() as directory, rabbitmq() if options.rabbitmq else nullcontext() as receiver:
        for number in range(THREADS):
            Path(directory, f"storm_module_{number}.py").write_text(
                "import logging\nVALUE = [str(n) for n in range(50)]\n"
            )
        sys.path.insert(0, directory)
        started = time.monotonic()
        total = Counter()
        storming = threading.Thread(target=storm, args=(way, options.aborts, total, receiver), daemon=True)
        storming.start()
        watch(storming, 5 * way.patience, total)
        seconds = time.monotonic() - started
    print(
        f"Python {sys.version.split()[0]}, {way.name}: {total['aborts']} aborts in {seconds:.0f} s, {total['raised']} "
        f"raised, {total['races']} together with a foreign exception"
    )
    for counter in COUNTERS:
        note = "  (not promised)" if counter in way.not_promised else ""
        print(f"  {counter:<42} {total[counter]:>8}{note}")
    sys.stdout.flush()
    # Hanging threads are left behind.
    os._exit(any(total[counter] for counter in COUNTERS if counter not in way.not_promised))


if __name__ == "__main__":
    main()
