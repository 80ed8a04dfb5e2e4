"""The messages of a storm: each kind ends differently, and some wait for two exceptions at once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import io
import itertools
import logging
import math
import multiprocessing
import os
import queue
import random
import select
import socket
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from http.cookiejar import CookieJar

from dramatiq.middleware import TimeLimit, TimeLimitExceeded, raise_thread_exception

from dramatiq_abort import Abort, checkpoint, run_process, shield, sleep

try:
    import greenlet
except ImportError:  # an optional dependency
    greenlet = None

THREADS = 8  # of the worker

log = logging.Logger("storm")
handler = logging.StreamHandler(io.StringIO())
log.addHandler(handler)
shared: queue.Queue[int] = queue.Queue()
event, semaphore, lock, taken = threading.Event(), threading.Semaphore(4), threading.Lock(), threading.Lock()
cookies = CookieJar()
executor = concurrent.futures.ThreadPoolExecutor(2)
silence, not_closed = socket.socketpair()
modules, numbers = threading.local(), itertools.count()
LOCKS = [
    *(lock, taken, cookies._cookies_lock, shared.mutex, event._cond, semaphore._cond, executor._shutdown_lock),
    *(handler.lock, logging._lock, threading._active_limbo_lock, concurrent.futures.thread._global_shutdown_lock),
]

#: Exceptions that CPython dropped because they were raised where they cannot propagate: thread and type.
dropped = []
#: Shared by all brokers, because its thread never ends.
time_limit = TimeLimit(interval=1)


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


def take_locks(steps):
    for _ in range(steps // 500):
        taken.acquire()
        try:
            end_in_a_loop(10)
        finally:
            taken.release()
        if taken.acquire(timeout=10):
            try:
                end_in_a_loop(10)
            finally:
                taken.release()
        with ExitStack() as stack:
            stack.enter_context(taken)
            end_in_a_loop(10)
        cookies.clear_session_cookies()


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
    # One per thread: importing a module in two threads while a third forgets it would fail by itself.
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


def sleep_in_steps(steps):
    for _ in range(steps // 500):
        checkpoint()
        sleep(1)


def block_in_a_call(steps):
    time.sleep(steps / 1e6)
    select.select([silence], [], [], steps / 1e6)


def run_a_program(steps):
    if steps % 8:  # it takes as long as many other kinds
        end_in_a_loop(steps)
    else:
        run_process(["true"], capture_output=True)


COMPUTING = [end_in_a_loop, end_in_a_c_call, end_in_a_finally, end_in_a_generator, raise_something_else]
KINDS = [
    *COMPUTING,
    end_in_nested_withs,
    take_locks,
    log_lines,
    use_a_queue,
    use_events_and_semaphores,
    use_futures,
    import_modules,
    sleep_in_steps,
    block_in_a_call,
    run_a_program,
]


async def await_in_a_loop(steps):
    for _ in range(steps // 100):
        await asyncio.sleep(0)


async def await_in_a_finally(steps):
    try:
        await await_in_a_loop(steps // 2)
    finally:
        await await_in_a_loop(steps // 2)


async def await_others(steps):
    await asyncio.gather(await_in_a_loop(steps), await_in_a_loop(steps // 2))


async def await_with_a_limit(steps):
    await asyncio.wait_for(await_in_a_loop(steps), 60)


async def await_locks_and_queues(steps):
    lock, numbers = asyncio.Lock(), asyncio.Queue()
    for step in range(steps // 200):
        async with lock:
            await numbers.put(step)
            await numbers.get()
            await asyncio.sleep(0)
    assert not lock.locked()


async def await_a_thread(steps):
    await asyncio.to_thread(end_in_a_loop, steps)


async def await_shielded(steps):
    for _ in range(steps // 500):
        async with shield():
            await await_in_a_loop(200)


async def return_at_once(steps):
    pass


COROUTINES = [
    *(await_in_a_loop, await_in_a_finally, await_others, await_with_a_limit, await_locks_and_queues, await_a_thread),
    *(await_shielded, return_at_once),
]


class Slow:
    """Has an operator in C code that gives up the GIL, like that of an array."""

    __matmul__ = time.sleep


slow, empty = Slow(), multiprocessing.Queue()
#: The repetitions of the messages that last for a second, and the time that they take, in seconds.
STEPS, STEP = 500, 0.002


def loop_over_an_iterator():
    for _ in map(time.sleep, itertools.repeat(STEP, STEPS)):
        pass


def comprehend():
    [each for each in map(time.sleep, itertools.repeat(STEP, STEPS))]  # noqa: C416


def operate():
    for _ in range(STEPS):
        slow @ STEP


def fail_in_protected_code():
    for _ in range(STEPS):
        try:
            empty.get(timeout=STEP)
        except queue.Empty:
            pass


def switch_to_a_greenlet():
    greenlet.greenlet(loop_over_an_iterator).switch()


def loop_in_a_greenlet():
    greenlet.greenlet(block_in_calls).switch()


def block_in_calls():
    for _ in range(STEPS):
        time.sleep(STEP)


def run_an_event_loop():
    asyncio.run(await_for_a_second())


def run_callbacks():
    """Run callbacks, in which asyncio would log an exception, and run the loop to its end."""

    async def wait():
        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(1)

    def callback():
        end_in_a_loop(500)
        asyncio.get_running_loop().call_soon(callback)

    asyncio.run(wait())


async def await_for_a_second():
    await asyncio.gather(*(asyncio.sleep(1) for _ in range(5)), count_to_a_second())


async def count_to_a_second():
    for _ in range(STEPS):
        end_in_a_loop(100)
        await asyncio.sleep(STEP)


#: Each takes at least a second without an abort, and should be aborted before that.
LASTING = [loop_over_an_iterator, comprehend, operate, fail_in_protected_code, run_an_event_loop, run_callbacks]
# Greenlets use C++, whose exceptions end a process that loaded ASan before C++'s library.
if greenlet is not None and "libasan" not in os.environ.get("LD_PRELOAD", ""):
    LASTING += [switch_to_a_greenlet, loop_in_a_greenlet]
#: The kinds that the pure-Python core does not end in time: before 3.12, and on any version.
NOT_IN_TIME = {fail_in_protected_code} if sys.version_info < (3, 12) else set()
NOT_BY_THE_PURE_CORE = NOT_IN_TIME | {switch_to_a_greenlet, loop_in_a_greenlet}


class Race:
    """An abort and an exception from another source that are sent to one message, which waits for both.

    Parameters:
      wait: The function with which the message waits.
      other: The class of the other exception.
      patience: The seconds that it waits after both were sent.
    """

    def __init__(self, wait, other, patience):
        self.wait, self.other, self.patience = wait, other, patience
        self.deadline = math.inf
        self.thread = None
        self.seen = set()

    def run(self, begin):
        """Wait for both, and return the exception that was raised last.

        None is missed, wherever it is raised: the second is raised while the first is being handled, and has it as
        its context.
        """
        self.thread = threading.get_ident()
        last = None
        try:
            try:
                begin()
                self.wait(self)
            except (Abort, self.other) as first:
                last = first
                if len(types_of(first)) == 1:
                    self.wait(self)
        except (Abort, self.other) as second:
            last = second
        self.seen = types_of(last)
        if self.other not in self.seen and (self.thread, self.other) in dropped:  # CPython lost it
            self.seen.add(self.other)
        return last

    def start(self, send_abort, rng):
        """Send both, one shortly after the other."""
        sends = [send_abort, self._send_other]
        rng.shuffle(sends)
        sends[0]()
        time.sleep(rng.choice([0, 0.0001, 0.001]) * rng.random())
        sends[1]()
        self.deadline = time.monotonic() + self.patience

    def is_over(self):
        return time.monotonic() > self.deadline

    def _send_other(self):
        if self.other is TimeLimitExceeded:
            time_limit.manager.add_timeout(self.thread, random.random())
        else:
            raise_thread_exception(self.thread, self.other)


def types_of(error):
    """Return the types of an exception and of those that were being handled when it was raised."""
    types = set()
    while error is not None:
        types.add(type(error))
        error = error.__context__
    return types


class Guard:
    """Does nothing, in functions that must not be interrupted."""

    def __enter__(self):
        end_in_a_loop(10)

    def __exit__(self, *_):
        end_in_a_loop(10)


# No locks here: exceptions from other sources are raised anywhere.
def wait_in_a_loop(race):
    while not race.is_over():
        pass


def wait_in_a_c_call(race):
    while not race.is_over():
        time.sleep(0.002)


def wait_in_a_finally(race):
    while not race.is_over():
        try:
            end_in_a_loop(10)
        finally:
            end_in_a_loop(10)


def wait_in_a_generator(race):
    any(race.is_over() for _ in itertools.repeat(None))


def wait_protected(race):
    while not race.is_over():
        with Guard():
            pass


def wait_shielded(race):
    while not race.is_over():
        with shield():
            end_in_a_loop(100)


WAYS_TO_WAIT = [
    *(wait_in_a_loop, wait_in_a_c_call, wait_in_a_finally, wait_in_a_generator, wait_protected, wait_shielded),
]
