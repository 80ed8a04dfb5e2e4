"""An exception is never raised where it would leave a lock locked, and it is still raised soon (1)."""

from __future__ import annotations

import gc
import io
import logging
import queue
import random
import sys
import threading
import time
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from support import (
    PATIENCE,
    needs_gil,
    needs_interrupts,
    needs_threads,
    protecting,
    run_forever,
    unprotect,
    wait_until,
    wait_until_it_waits,
)
from test_scope import Stop, Target

from dramatiq_abort import Abortable
from dramatiq_abort._core import interrupt_py
from dramatiq_abort._core.safe_points import is_protected
from dramatiq_abort.backends import StubBackend
from dramatiq_abort.interrupt import InterruptResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

pytestmark = [needs_interrupts, needs_gil, pytest.mark.sanitized]


def interrupt_until_it_lands(target: Target) -> set[InterruptResult]:
    """Interrupt repeatedly while the result asks for it."""
    answers: set[InterruptResult] = set()

    def landed() -> bool:
        answers.add(target.scope.interrupt(Stop))
        return not target.thread.is_alive()

    wait_until(landed, "the end of the interrupted function")
    return answers


def test_nothing_is_raised_in_protected_code(core: ModuleType) -> None:
    """A thread in a log handler is not interrupted until it has left it."""
    entered, go_on = threading.Event(), threading.Lock()
    go_on.acquire()
    done = []

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            entered.set()
            go_on.acquire()
            done.append(record.msg)

    logger = logging.Logger("protected")
    handler = Slow()
    logger.addHandler(handler)

    def function() -> None:
        logger.warning("one")
        run_forever()

    target = Target(core, function)
    assert entered.wait(PATIENCE)
    wait_until_it_waits(target.thread)
    answer = target.scope.interrupt(Stop)
    go_on.release()
    interrupt_until_it_lands(target)

    assert answer in {InterruptResult.ARMED, InterruptResult.PROTECTED}
    assert done == ["one"]
    assert isinstance(target.error, Stop)
    assert handler.lock is not None
    assert handler.lock.acquire(blocking=False)


def test_a_look_that_is_too_old_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pure-Python core discards an old look: the thread may have moved on while this one had no processor."""
    looked, moved = threading.Event(), threading.Event()

    class Slow(interrupt_py.Scope):
        __slots__ = ()

        def _is_at_safe_point(self) -> bool:
            is_safe = super()._is_at_safe_point()
            if is_safe and not moved.is_set():
                looked.set()
                assert moved.wait(PATIENCE)
                begin = time.monotonic()
                wait_until(lambda: time.monotonic() > begin + interrupt_py._SURE)
            return is_safe

        def _follow(self, frame: object) -> None:
            """Leave the interrupt to the looks."""

    def function() -> None:
        while not looked.is_set():
            pass
        moved.set()
        run_forever()

    monkeypatch.setattr(interrupt_py, "Scope", Slow)
    target = Target(interrupt_py, function)
    wait_until(target.scope.frames)
    answers = []
    while not moved.is_set():
        answers.append(target.scope.interrupt(Stop))
    interrupt_until_it_lands(target)

    assert answers[-1] is InterruptResult.PROTECTED
    assert isinstance(target.error, Stop)


@needs_threads
def test_a_look_at_oneself_is_never_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that interrupts its own scope stands still, so its look is valid however long it takes."""
    monkeypatch.setattr(interrupt_py, "_SURE", -1)
    scope = interrupt_py.Scope()

    with pytest.raises(Stop):
        scope.run(lambda: (scope.interrupt(Stop), abs(-1)))


def test_the_clean_up_of_a_context_manager_is_not_cut(core: ModuleType) -> None:
    """The clean-up of a context manager, a class or a contextlib generator, is not interrupted."""
    entered, go_on = threading.Event(), threading.Lock()
    go_on.acquire()
    done = []

    class Outer:
        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            entered.set()
            go_on.acquire()
            for number in range(1000):
                str(number)
            done.append("class")

    @contextmanager
    def inner() -> Iterator[None]:
        try:
            yield
        finally:
            for number in range(1000):
                str(number)
            done.append("contextlib")

    def function() -> None:
        with inner(), Outer():
            pass
        run_forever()

    target = Target(core, function)
    assert entered.wait(PATIENCE)
    wait_until_it_waits(target.thread)
    assert target.scope.interrupt(Stop) in {InterruptResult.ARMED, InterruptResult.PROTECTED}
    go_on.release()
    interrupt_until_it_lands(target)

    assert done == ["class", "contextlib"]
    assert isinstance(target.error, Stop)


def _wait_for_event() -> None:
    threading.Event().wait()


def _wait_for_queue() -> None:
    queue.Queue[int]().get()


def _wait_for_semaphore() -> None:
    threading.Semaphore(0).acquire()


def _wait_for_barrier() -> None:
    threading.Barrier(2).wait()


@needs_threads
@pytest.mark.parametrize("wait", [_wait_for_event, _wait_for_queue, _wait_for_semaphore, _wait_for_barrier])
def test_a_wait_counts_as_safe(core: ModuleType, wait: Callable[[], None]) -> None:
    """A wait counts as safe: it is in protected code for any length of time, but cleans up after itself."""
    waits: list[threading.Condition] = []
    patched = threading.Lock()
    patched.acquire()

    def function() -> None:
        patched.acquire()
        wait()

    target = Target(core, function)
    with pytest.MonkeyPatch.context() as patch:
        # The wait itself is in C: make it return from time to time, like waits with a timeout. Not the one for the
        # thread's start, which would miss a signal between two steps.
        original = threading.Condition.wait

        def in_steps(condition: threading.Condition, timeout: float | None = None) -> bool:
            waits.append(condition)
            while not original(condition, 0.001):
                pass
            return True

        patch.setattr(threading.Condition, "wait", in_steps)
        patched.release()
        wait_until(lambda: waits, "the wait")
        interrupt_until_it_lands(target)

    assert isinstance(target.error, Stop)


def test_users_can_protect_their_own(core: ModuleType) -> None:
    """Users can protect modules by the module's name or its package's."""
    source = "def hold(entered, go_on, done):\n    entered.set()\n    go_on.acquire()\n    done.append(str(1))\n"
    space: dict[str, Any] = {"__name__": "their_pool.connections"}
    exec(source, space)
    entered, go_on = threading.Event(), threading.Lock()
    go_on.acquire()
    done: list[str] = []

    def function() -> None:
        space["hold"](entered, go_on, done)
        run_forever()

    with protecting("their_pool"):
        target = Target(core, function)
        assert entered.wait(PATIENCE)
        wait_until_it_waits(target.thread)
        answer = target.scope.interrupt(Stop)
        go_on.release()
        interrupt_until_it_lands(target)

    assert answer in {InterruptResult.ARMED, InterruptResult.PROTECTED}
    assert done == ["1"]


def test_a_worker_protects_what_its_middleware_names() -> None:
    """A worker protects ``protected_modules`` from its start, in the whole process."""
    broker = StubBroker(middleware=[Abortable(backend=StubBackend(), protected_modules=["their_pool"])])
    worker = dramatiq.Worker(broker, worker_timeout=10)
    worker.start()
    try:
        assert is_protected("their_pool.connections")
    finally:
        worker.stop()
        unprotect("their_pool")


def test_a_wait_of_theirs_is_not_cut(core: ModuleType) -> None:
    """A wait in a user's module is not interrupted, or an object that was handed over would be lost."""
    source = "def get(queue, got):\n    got.append(queue.get())\n"
    space: dict[str, Any] = {"__name__": "their_pool.connections"}
    exec(source, space)
    pool: queue.Queue[str] = queue.Queue()
    got: list[str] = []

    def function() -> None:
        space["get"](pool, got)
        run_forever()

    with protecting("their_pool"):
        target = Target(core, function)
        wait_until_it_waits(target.thread)
        answers = {target.scope.interrupt(Stop) for _ in range(3)}
        pool.put("connection")
        interrupt_until_it_lands(target)

    assert answers <= {InterruptResult.ARMED, InterruptResult.PROTECTED}
    assert got == ["connection"]


def test_a_wait_of_a_context_manager_is_not_cut(core: ModuleType) -> None:
    """A wait in a context manager that acquires something is not interrupted, or it would not be released."""
    pool: queue.Queue[str] = queue.Queue()
    steps: list[str] = []

    class Connection:
        def __enter__(self) -> None:
            steps.append(pool.get())

        def __exit__(self, *_: object) -> None:
            steps.append("given back")

    def function() -> None:
        with Connection():
            run_forever()

    target = Target(core, function)
    wait_until_it_waits(target.thread)
    answers = {target.scope.interrupt(Stop) for _ in range(3)}
    pool.put("connection")
    interrupt_until_it_lands(target)

    assert answers <= {InterruptResult.ARMED, InterruptResult.PROTECTED}
    assert steps == ["connection", "given back"]


def test_the_start_of_a_thread_is_not_cut(core: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting a thread is not interrupted: its starter must know of the running thread."""
    starting, go_on = threading.Event(), threading.Event()
    steps: list[str] = []

    class Slow(threading.Thread):
        def _bootstrap_inner(self) -> None:  # before it reports that it runs
            starting.set()
            assert go_on.wait(PATIENCE)
            super()._bootstrap_inner()  # type: ignore[misc]

    def function() -> None:
        Slow(target=steps.append, args=("ran",)).start()
        run_forever()

    target = Target(core, function)
    assert starting.wait(PATIENCE)
    wait_until_it_waits(target.thread)
    answers = {target.scope.interrupt(Stop) for _ in range(3)}
    go_on.set()
    interrupt_until_it_lands(target)

    assert answers <= {InterruptResult.ARMED, InterruptResult.PROTECTED}
    assert target.error is not None
    assert "wait" not in [frame.name for frame in traceback.extract_tb(target.error.__traceback__)]
    wait_until(lambda: steps == ["ran"], "the thread's end")


class Thing:
    """An object without other references."""


class LastWords(Thing):
    """Runs Python code in its destructor."""

    def __del__(self) -> None:
        str(self)


def let_a_set_forget() -> None:
    things: weakref.WeakSet[Thing] = weakref.WeakSet()
    while True:
        things.add(Thing())
        abs(-1)


def let_a_dictionary_forget() -> None:
    things: weakref.WeakValueDictionary[int, Thing] = weakref.WeakValueDictionary()
    while True:
        things[1] = Thing()
        abs(-1)


def let_a_method_go() -> None:
    while True:
        thing = LastWords()
        method = weakref.WeakMethod(thing.__del__)
        del thing
        assert method() is None
        abs(-1)


def let_a_finalizer_run() -> None:
    while True:
        weakref.finalize(Thing(), str, 1)
        abs(-1)


def let_it_go() -> None:
    while True:
        LastWords()
        abs(-1)


def let_the_collector_call() -> None:
    while True:
        gc.collect(0)
        abs(-1)


class Collections:
    """Counts garbage collections."""

    def __init__(self) -> None:
        self.number = 0

    def count(self, phase: str, _: object) -> None:
        self.number += phase == "start"


@pytest.mark.slow
@needs_threads
@pytest.mark.parametrize(
    "function",
    [
        let_a_set_forget,
        let_a_dictionary_forget,
        let_a_method_go,
        let_a_finalizer_run,
        let_it_go,
        let_the_collector_call,
    ],
)
def test_nothing_is_raised_where_it_would_be_dropped(
    core: ModuleType,
    function: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """Nothing is raised in or at the return of destructors, whose C callers drop exceptions."""
    compiled_only(core)
    dropped: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", dropped.append)
    collections = Collections()
    # From 3.12 on, a due collection precedes the exception after a call. Here none is due.
    gc.disable()
    gc.callbacks.append(collections.count)
    request.addfinalizer(lambda: (gc.callbacks.remove(collections.count), gc.enable()))

    for _ in range(50):
        target = Target(core, function)
        interrupt_until_it_lands(target)
        assert isinstance(target.error, Stop)

    assert dropped == []


lock, other_lock = threading.Lock(), threading.Lock()


def condition_at_the_end(started: threading.Event) -> None:
    number = 0
    with lock:
        started.set()
        while number >= 0:
            number = abs(number) + 1


def condition_in_the_middle(started: threading.Event) -> None:
    number = 0
    with lock:
        started.set()
        while True:
            number = abs(number) + 1
            if number == -1:
                str(number)


def no_call(started: threading.Event) -> None:
    number = 0
    with lock:
        started.set()
        while number >= 0:
            number = number + 1


def no_call_in_one_line(started: threading.Event) -> None:
    number = 0
    with lock:
        started.set()
        while number >= 0: number = number + 1  # fmt: skip # noqa: E701


def no_call_and_another_with(started: threading.Event) -> None:
    number = 0
    with lock:
        started.set()
        while number >= 0:
            with other_lock:
                number = number + 1
                while number % 7:
                    number = number + 1
            number = number + 1


def _with_many_variables() -> Callable[[threading.Event], None]:
    """Return a function in which each instruction on the last variable is longer than others."""
    names = [f"number{each}" for each in range(300)]
    lines = [f"    {' = '.join(names)} = 0", "    with lock:", "        started.set()"]
    lines += [f"        while {names[-1]} >= 0:", f"            {names[-1]} = {names[-1]} + 1"]
    namespace: dict[str, Any] = {"lock": lock}
    exec("\n".join(["def many_variables(started):", *lines]), namespace)
    function: Callable[[threading.Event], None] = namespace["many_variables"]
    return function


LOOPS = [condition_at_the_end, condition_in_the_middle, no_call, no_call_in_one_line, no_call_and_another_with]
LOOPS += [_with_many_variables()]


@pytest.mark.slow
@needs_threads
@pytest.mark.parametrize("function", LOOPS)
def test_a_with_around_a_loop_is_not_passed_by(core: ModuleType, function: Callable[..., None]) -> None:
    """From 3.13 on, no exception bypasses a ``with`` that does not cover the jump back of a loop in it."""
    compiled_only(core)
    for _ in range(20):
        started = threading.Event()
        target = Target(core, function, started)
        assert started.wait(PATIENCE)
        interrupt_once_in_a_while(target)
        assert isinstance(target.error, Stop)
        assert not lock.locked()
        assert not other_lock.locked()
        if sys.version_info >= (3, 13):
            assert not is_watched(function)


def is_watched(function: Callable[..., object]) -> bool:
    """Return whether a function's instructions are watched, from Python 3.13 on."""
    monitoring = sys.monitoring
    tools = [tool for tool in range(6) if monitoring.get_tool(tool) is not None]
    return any(monitoring.get_local_events(tool, function.__code__) for tool in tools)


def interrupt_once_in_a_while(target: Target) -> None:
    """Interrupt as the middleware does, the second time only after the thread had a turn."""
    target.scope.interrupt(Stop)
    while target.thread.is_alive():
        target.thread.join(0.05)
        target.scope.interrupt(Stop)


class Storm:
    """Threads that repeat one action in one scope after another, and are interrupted all the time."""

    def __init__(self, core: ModuleType, function: Callable[[], None], threads: int) -> None:
        self._core = core
        self._function = function
        self.landed = [0] * threads
        self.outside: list[BaseException] = []
        self._scopes: list[Any] = [None] * threads
        self._stopping = False
        self.threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(threads)]

    def _run(self, number: int) -> None:
        try:
            while not self._stopping:
                self._scopes[number] = scope = self._core.Scope()
                try:
                    scope.run(self._function)
                except Stop:
                    self.landed[number] += 1
        except BaseException as error:  # noqa: BLE001
            self.outside.append(error)

    def rage(self, each: int) -> None:
        """Interrupt the threads until each was hit a number of times; none may starve."""
        rng = random.Random(1)
        for thread in self.threads:
            thread.start()

        def enough() -> bool:
            for scope in rng.sample(self._scopes, len(self._scopes)):
                if scope is not None:
                    scope.interrupt(Stop)
            assert not self.outside
            return min(self.landed) >= each

        wait_until(enough, "the interrupts of each thread")
        self._stopping = True

        def all_over() -> bool:
            enough()
            return not any(thread.is_alive() for thread in self.threads)

        wait_until(all_over, "the end of the threads")


def compiled_only(core: ModuleType) -> None:
    if core.__name__.endswith("_py"):
        pytest.skip("the pure-Python core cannot follow a thread into the next safe place")


@needs_threads
def test_a_storm_over_threads_that_log(core: ModuleType) -> None:
    """No lock of logging stays locked, and no thread starves."""
    compiled_only(core)
    logger = logging.Logger("storm")
    handler = logging.StreamHandler(io.StringIO())
    logger.addHandler(handler)

    def function() -> None:
        while True:
            logger.warning("a line of %s", "text")

    storm = Storm(core, function, threads=4)
    storm.rage(each=100)

    assert handler.lock is not None
    assert handler.lock.acquire(timeout=1)


@needs_threads
def test_a_storm_over_threads_that_share_a_queue(core: ModuleType) -> None:
    """No lock of a queue, event, semaphore or future stays locked."""
    compiled_only(core)
    shared: queue.Queue[int] = queue.Queue()
    event, semaphore = threading.Event(), threading.Semaphore(2)

    def function() -> None:
        while True:
            shared.put(1)
            event.set()
            with semaphore:
                event.wait(0.001)
            try:
                shared.get(timeout=0.001)
            except queue.Empty:
                pass
            event.clear()

    storm = Storm(core, function, threads=4)
    storm.rage(each=100)

    assert shared.mutex.acquire(timeout=1)
    assert event._cond.acquire(timeout=1)
    assert semaphore._cond.acquire(timeout=1)


@needs_threads
def test_a_storm_over_threads_that_submit(core: ModuleType) -> None:
    """No lock of an executor stays locked."""
    compiled_only(core)
    with ThreadPoolExecutor(2) as executor:

        def function() -> None:
            while True:
                executor.submit(int).result(PATIENCE)

        storm = Storm(core, function, threads=2)
        storm.rage(each=50)

        assert executor.submit(int).result(PATIENCE) == 0
