"""The interrupt core alone, with one set of tests for both cores."""

from __future__ import annotations

import os
import queue
import random
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from support import (
    GREENLETS,
    PATIENCE,
    needs_gil,
    needs_interrupts,
    needs_threads,
    run_forever,
    set_async_exception,
    wait_until,
    wait_until_it_waits,
)

from dramatiq_abort.interrupt import InterruptResult

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

pytestmark = pytest.mark.sanitized


class Stop(BaseException):
    """The exception that the tests interrupt with."""


class Foreign(BaseException):
    """An exception from another source."""


class Target:
    """A thread that runs a function in a scope, and then checks that no exception is raised after it."""

    def __init__(self, core: ModuleType, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.scope = core.Scope()
        self.result: Any = None
        self.error: BaseException | None = None
        self.late: BaseException | None = None
        self._call = function, args, kwargs
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            try:
                self.result = self.scope.run(*self._call)
            except BaseException as error:  # noqa: BLE001
                self.error = error
            for _ in range(1000):
                pass
        except BaseException as error:  # noqa: BLE001
            self.late = error

    def join(self) -> Target:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self


def interrupt_where_it_waits(target: Target) -> None:
    """Interrupt a waiting thread; from 3.13 on, the compiled core recognises it at its second look."""
    wait_until(lambda: target.scope.interrupt(Stop) is InterruptResult.RAISED)


def interrupt_until_raised(target: Target) -> None:
    """Interrupt until raised: the first look may find the thread anywhere, without a processor."""
    wait_until(lambda: target.scope.interrupt(Stop) in {InterruptResult.RAISED, InterruptResult.CLOSED})


def test_a_scope_is_a_plain_call(core: ModuleType) -> None:
    """A scope passes arguments and the result."""
    assert core.Scope().run(int, ("ff",), {"base": 16}) == 255
    assert core.Scope().run(dict) == {}


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_the_function_raises_comes_out(core: ModuleType, error: BaseException) -> None:
    """The function's exception propagates as the same instance, with the function in its traceback."""

    def function() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        core.Scope().run(function)

    assert caught.value is error
    assert "function" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def test_a_scope_runs_once(core: ModuleType) -> None:
    """A scope has the state of one call, and runs once."""
    scope = core.Scope()
    scope.run(int)

    with pytest.raises(RuntimeError, match="make a new Scope"):
        scope.run(int)


@needs_interrupts
def test_an_interrupt_is_raised_in_the_function(core: ModuleType) -> None:
    """An interrupt is raised in the function, which can catch it; repeated ones return RAISED."""
    started = threading.Event()
    seen = []

    def function() -> str:
        try:
            run_forever(started)
        except Stop as stop:
            seen.append(stop)
        return "went on"

    target = Target(core, function)
    assert started.wait(PATIENCE)
    answers = {target.scope.interrupt(Stop) for _ in range(100)}
    interrupt_until_raised(target)
    target.join()

    assert answers <= {InterruptResult.RAISED, InterruptResult.ARMED, InterruptResult.PROTECTED, InterruptResult.CLOSED}
    assert target.result == "went on"
    assert len(seen) == 1
    assert target.late is None


def test_an_interrupt_before_the_opening_is_raised_instead_of_the_call(core: ModuleType) -> None:
    """An interrupt before the opening waits, and is raised instead of the call."""
    scope = core.Scope()
    calls: list[int] = []

    assert scope.interrupt(Stop) is InterruptResult.DEFERRED
    with pytest.raises(Stop):
        scope.run(calls.append, (1,))

    assert calls == []
    assert scope.interrupt(Stop) is InterruptResult.CLOSED


def test_an_interrupt_after_the_closing_does_nothing(core: ModuleType) -> None:
    """An interrupt after the closing does nothing, whether the function returned or raised."""
    returned, raised = core.Scope(), core.Scope()
    returned.run(int)
    with pytest.raises(ValueError, match="invalid literal"):
        raised.run(int, ("x",))

    assert returned.interrupt(Stop) is InterruptResult.CLOSED
    assert raised.interrupt(Stop) is InterruptResult.CLOSED


@pytest.mark.parametrize("wrong", [None, "Stop", Stop(), int])
def test_only_exception_classes_interrupt(core: ModuleType, wrong: object) -> None:
    """Anything but an exception class is refused, and leaves the scope unchanged."""
    scope = core.Scope()

    with pytest.raises(TypeError):
        scope.interrupt(wrong)

    assert scope.run(int) == 0


@needs_threads
@needs_interrupts
def test_a_completed_call_keeps_its_result(core: ModuleType) -> None:
    """A pending exception is cleared when the function returns (2)."""
    lock = threading.Lock()
    lock.acquire()
    target = Target(core, lock.acquire)
    wait_until_it_waits(target.thread)

    interrupt_where_it_waits(target)
    lock.release()
    target.join()

    assert target.result is True
    assert target.error is None
    assert target.late is None


@pytest.mark.slow
@needs_threads
@needs_interrupts
def test_a_failed_call_keeps_its_exception(core: ModuleType) -> None:
    """A pending exception is cleared when the function raises (2)."""
    if core.__name__.endswith("_py") and sys.version_info[:2] == (3, 12):
        pytest.skip("on 3.12 the pure-Python core takes the late exception for the function's own")
    nothing: queue.SimpleQueue[None] = queue.SimpleQueue()
    target = Target(core, nothing.get, timeout=3)
    wait_until_it_waits(target.thread)

    interrupt_where_it_waits(target)
    target.join()

    assert isinstance(target.error, queue.Empty)
    assert target.late is None


@pytest.mark.untraced
@needs_threads
@needs_interrupts
def test_the_exact_window(core: ModuleType, tiny_switch_interval: None) -> None:
    """Interrupts around the return are raised inside or not at all, and no result is lost (1, 2)."""
    wanted = 60
    scopes: list[Any] = [core.Scope()]
    counts = dict.fromkeys(["completed", "interrupted", "outside", "wrong"], 0)
    rng = random.Random(1)

    def function(steps: int) -> int:
        for number in range(steps):
            abs(number)
        return steps

    def work() -> None:
        while min(counts["completed"], counts["interrupted"]) < wanted:
            try:
                steps = rng.randrange(1_000)
                scopes[0] = scope = core.Scope()
                try:
                    result = scope.run(function, (steps,))
                except Stop:
                    counts["interrupted"] += 1
                else:
                    counts["completed" if result == steps else "wrong"] += 1
                for _ in range(20):
                    pass
            except Stop:
                counts["outside"] += 1

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def over() -> bool:
        scopes[0].interrupt(Stop)
        return not thread.is_alive()

    wait_until(over, "the calls of either kind")

    assert counts["outside"] == 0
    assert counts["wrong"] == 0


@pytest.mark.untraced
@needs_threads
@needs_interrupts
def test_somebody_elses_exception_stays(core: ModuleType) -> None:
    """Another source's pending exception stays when the scope closes, and is raised after it (3)."""
    lock = threading.Lock()
    lock.acquire()
    target = Target(core, lock.acquire)
    wait_until_it_waits(target.thread)

    set_async_exception(target.thread, Foreign)
    lock.release()
    target.join()

    assert isinstance(target.late or target.error, Foreign)


@needs_threads
@needs_interrupts
def test_somebody_elses_exception_is_not_overwritten(core: ModuleType) -> None:
    """While another exception is in the slot, the result says so; a retry succeeds later (3)."""
    if core.__name__.endswith("_py"):
        pytest.skip("the pure-Python core cannot read the slot")
    lock = threading.Lock()
    lock.acquire()
    seen = []

    def function() -> None:
        try:
            lock.acquire()
        except Foreign as foreign:
            seen.append(type(foreign))
        run_forever()

    target = Target(core, function)
    wait_until_it_waits(target.thread)
    set_async_exception(target.thread, Foreign)
    wait_until(lambda: target.scope.interrupt(Stop) is InterruptResult.SLOT_BUSY)
    lock.release()
    wait_until(lambda: target.scope.interrupt(Stop) is InterruptResult.CLOSED)
    target.join()

    assert seen == [Foreign]
    assert isinstance(target.error, Stop)


@needs_threads
@needs_interrupts
@pytest.mark.parametrize("asked", ["before theirs comes up", "after it"])
def test_an_exception_that_somebody_else_overwrites_comes_behind_theirs(core: ModuleType, asked: str) -> None:
    """If another source overwrites our exception, both are raised, ours after theirs (3)."""
    if core.__name__.endswith("_py"):
        pytest.skip("the pure-Python core cannot read the slot")
    lock = threading.Lock()
    lock.acquire()
    seen = []

    def function() -> None:
        try:
            lock.acquire()
        except Foreign as foreign:
            seen.append(type(foreign))
        run_forever()

    target = Target(core, function)
    wait_until_it_waits(target.thread)
    interrupt_where_it_waits(target)
    set_async_exception(target.thread, Foreign)
    if asked == "before theirs comes up":
        assert target.scope.interrupt(Stop) in {InterruptResult.SLOT_BUSY, InterruptResult.ARMED}
    lock.release()
    wait_until(lambda: seen)
    wait_until(lambda: target.scope.interrupt(Stop) is InterruptResult.CLOSED)
    target.join()

    assert seen == [Foreign]
    assert isinstance(target.error, Stop)


@needs_interrupts
def test_what_comes_up_is_of_the_very_class(core: ModuleType) -> None:
    """The raised exception has exactly the given class, also during handling and when raised again."""
    entered = threading.Event()

    def function() -> None:
        try:
            int("no number")
        except ValueError:
            try:
                run_forever(entered)
            except Stop as stop:
                assert sys.exc_info()[1] is stop
                raise

    target = Target(core, function)
    assert entered.wait(PATIENCE)
    wait_until(lambda: target.scope.interrupt(Stop) is InterruptResult.CLOSED)
    target.join()

    assert type(target.error) is Stop
    assert isinstance(target.error.__context__, ValueError) or GREENLETS  # which do not reveal it (greenlet.throw)


@needs_interrupts
def test_what_has_come_up_can_be_raised_again(core: ModuleType) -> None:
    """After rearm(), not before, an exception that the function caught can be raised again."""
    caught: list[BaseException] = []
    inside = threading.Semaphore(0)

    def function() -> None:
        while len(caught) < 3:
            try:
                inside.release()
                run_forever()
            except Stop as stop:
                caught.append(stop)
        run_forever()

    def interrupt_until(number: int) -> None:
        def came_up() -> bool:
            target.scope.interrupt(Stop)
            return len(caught) == number

        wait_until(came_up, f"exception {number}")

    target = Target(core, function)
    assert inside.acquire(timeout=PATIENCE)
    assert not target.scope.rearm()
    interrupt_until(1)
    for _ in range(100):
        assert target.scope.interrupt(Stop) is InterruptResult.RAISED
    assert len(caught) == 1
    for number in (2, 3):
        assert inside.acquire(timeout=PATIENCE)
        assert target.scope.rearm()
        interrupt_until(number)
    assert target.scope.rearm()
    wait_until(lambda: target.scope.interrupt(Stop) is InterruptResult.CLOSED)
    target.join()

    assert isinstance(target.error, Stop)
    assert not target.scope.rearm()


@needs_interrupts
def test_a_claimed_exception_is_not_raised_by_the_scope(core: ModuleType) -> None:
    """A claimed exception is raised by the claimant, once, but not in a shield or outside the function (1)."""
    if GREENLETS:
        pytest.skip("greenlets are interrupted in their loop as it is")
    ready, entered, go_on, shielded, unshielded = (threading.Event() for _ in range(5))

    def function() -> str:
        ready.wait(PATIENCE)
        with target.scope.shield():
            entered.set()
            shielded.wait(PATIENCE)
        unshielded.set()
        go_on.wait(PATIENCE)
        return "went on"

    assert not core.Scope().claim()
    target = Target(core, function)
    ready.set()
    assert entered.wait(PATIENCE)
    assert not target.scope.claim()
    shielded.set()
    assert unshielded.wait(PATIENCE)
    assert target.scope.claim()
    assert not target.scope.claim()
    for _ in range(100):
        assert target.scope.interrupt(Stop) is InterruptResult.RAISED
    assert not target.scope.revoke()
    go_on.set()
    target.join()

    assert target.result == "went on"
    assert not target.scope.claim()


@needs_interrupts
def test_a_claim_takes_off_what_has_been_armed(core: ModuleType) -> None:
    """A claim in protected code removes the deferred interrupt; once rearmed, the scope raises again."""
    if GREENLETS:
        pytest.skip("greenlets are interrupted in their loop as it is")
    entered, go_on, outside = (threading.Event() for _ in range(3))

    class Protected:
        def __enter__(self) -> None:
            entered.set()
            go_on.wait(PATIENCE)

        def __exit__(self, *exc_info: object) -> None:
            pass

    def function() -> None:
        with Protected():
            pass
        for _ in range(1000):
            str(_)
        outside.set()
        run_forever()

    target = Target(core, function)
    assert entered.wait(PATIENCE)
    assert target.scope.interrupt(Stop) in {InterruptResult.ARMED, InterruptResult.PROTECTED}
    assert target.scope.claim()
    go_on.set()
    assert outside.wait(PATIENCE)
    assert target.scope.rearm()
    interrupt_until_raised(target)
    target.join()

    assert isinstance(target.error, Stop)


@needs_interrupts
def test_a_rearmed_scope_waits_for_its_shield(core: ModuleType) -> None:
    """A rearmed scope raises again only after its shield."""
    entered, go_on, caught = threading.Event(), threading.Lock(), list[BaseException]()
    go_on.acquire()

    def function() -> None:
        try:
            run_forever()
        except Stop as stop:
            with target.scope.shield():
                entered.set()
                go_on.acquire()
                caught.append(stop)

    def is_inside() -> bool:
        target.scope.interrupt(Stop)
        return entered.is_set()

    target = Target(core, function)
    wait_until(is_inside)
    assert target.scope.rearm()
    assert target.scope.interrupt(Stop) is InterruptResult.DEFERRED
    go_on.release()
    target.join()

    assert len(caught) == 1
    assert isinstance(target.error, Stop)
    assert target.error is not caught[0]
    assert target.error.__context__ is caught[0]


@needs_gil
def test_a_scope_tells_where_its_thread_is(core: ModuleType) -> None:
    """``frames()`` shows where an open scope's thread is, to explain why it does not stop."""
    lock = threading.Lock()
    lock.acquire()

    def wait_here() -> None:
        lock.acquire()

    assert core.Scope().frames() == []
    target = Target(core, wait_here)
    wait_until_it_waits(target.thread)
    frames = target.scope.frames()
    lock.release()
    target.join()

    assert wait_here.__code__ in [frame.f_code for frame in frames[-2:]]  # a greenlet's lock is Python code
    assert len(frames) > 1
    assert target.scope.frames() == []


@needs_threads
@needs_interrupts
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_scope_of_a_dead_thread_is_closed(core: ModuleType) -> None:
    """A scope is closed if its thread is gone, as in the child of a fork."""
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork here")
    started = threading.Event()
    target = Target(core, run_forever, started)
    assert started.wait(PATIENCE)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if target.scope.interrupt(Stop) is InterruptResult.CLOSED else 1)
    status = os.waitpid(pid, 0)[1]
    interrupt_until_raised(target)
    target.join()

    assert os.waitstatus_to_exitcode(status) == 0
    assert isinstance(target.error, Stop)


@needs_threads
@needs_interrupts
def test_an_absorbed_exception_leaves_nothing_behind(core: ModuleType) -> None:
    """Up to 3.12, an emptied slot does not leave the interpreter looking, which hangs profiled threads on 3.11 (1)."""
    lock = threading.Lock()
    lock.acquire()
    target = Target(core, lock.acquire)
    wait_until_it_waits(target.thread)
    interrupt_where_it_waits(target)
    lock.release()
    target.join()
    events = []

    def function() -> None: ...

    sys.setprofile(lambda _frame, event, _argument: events.append(event))
    function()
    sys.setprofile(None)

    assert target.result is True
    assert events[:2] == ["call", "return"]


@needs_threads
@needs_interrupts
def test_a_thread_that_starts_another_is_interrupted_itself(core: ModuleType) -> None:
    """Up to 3.11, an interrupt does not hit a new thread that still has its starter's ident (1)."""
    if core.__name__.endswith("_py"):
        pytest.skip("the pure-Python core cannot follow a thread into the next safe place")
    unraisable: list[object] = []
    before, sys.unraisablehook = sys.unraisablehook, unraisable.append

    def function() -> None:
        while True:
            threading.Thread(target=int, daemon=True).start()

    try:
        for _ in range(100):
            target = Target(core, function)
            wait_until(lambda target=target: target.scope.interrupt(Stop) is InterruptResult.CLOSED)
            target.join()
            assert isinstance(target.error, Stop)
    finally:
        sys.unraisablehook = before

    assert unraisable == []
