"""Profilers, debuggers and coverage of an interrupted thread are neither interrupted nor removed (1)."""

from __future__ import annotations

import cProfile
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from support import PATIENCE, needs_interrupts, needs_threads, run_forever, wait_until, wait_until_it_waits
from test_safe_points import interrupt_until_it_lands
from test_scope import Stop, Target

from dramatiq_abort.interrupt import InterruptResult

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType

pytestmark = [needs_interrupts, needs_threads, pytest.mark.sanitized, pytest.mark.untraced]


class Observer:
    """A tracer in Python that notices when it is interrupted."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.open: list[FrameType] = []
        self.strays = 0

    def __call__(self, frame: FrameType, event: str, arg: object) -> Observer:
        self.begun += 1
        if event == "call":
            self.open.append(frame)
        elif event == "return" and frame in self.open:
            self.strays += self.open.pop() is not frame
        str(arg).join(map(str, range(5)))  # calls C functions and returns, as tracers do
        self.ended += 1
        return self


class Protected:
    """Protected code in which a test can examine the thread."""

    def __init__(self, look_around: Callable[[], None]) -> None:
        self._look_around = look_around

    def __enter__(self) -> None:
        self._look_around()

    def __exit__(self, *_: object) -> None: ...


def step() -> None:
    time.sleep(0)
    abs(-1)


@pytest.mark.parametrize(("install", "installed"), [(sys.setprofile, sys.getprofile), (sys.settrace, sys.gettrace)])
@pytest.mark.parametrize("pause", [None, 0, 0.001])
def test_a_tracer_in_python_is_left_alone(
    core: ModuleType, install: Callable[[Any], None], installed: Callable[[], object], pause: float | None
) -> None:
    """A Python tracer is never interrupted, sees a return for each call, and stays installed."""
    _skip_if_pure(core)

    def function(observer: Observer, started: threading.Event) -> None:
        install(observer)
        try:
            started.set()
            number = 0
            while pause is None:
                number = number + 1
            while pause is not None:
                step()
                time.sleep(pause)
        finally:
            left.append(installed())
            install(None)

    for _ in range(20):
        observer, started, left = Observer(), threading.Event(), list[object]()
        target = Target(core, function, observer, started)
        assert started.wait(PATIENCE)
        interrupt_until_it_lands(target)

        assert isinstance(target.error, Stop)
        assert left == [observer]
        assert observer.begun == observer.ended > 0
        assert observer.strays == 0
        assert not observer.open


def test_a_profiler_in_c_is_left_alone(core: ModuleType) -> None:
    """A thread keeps its C profiler, and is interrupted all the same."""
    entered, go_on = threading.Event(), threading.Lock()
    go_on.acquire()
    profiler = cProfile.Profile()

    def profiled_in_the_end() -> None: ...

    def wait_there() -> None:
        entered.set()
        go_on.acquire()

    def function() -> None:
        profiler.enable()
        try:
            with Protected(wait_there):
                run_forever()
        finally:
            profiled_in_the_end()
            profiler.disable()

    target = Target(core, function)
    assert entered.wait(PATIENCE)
    wait_until_it_waits(target.thread)
    assert target.scope.interrupt(Stop) in {InterruptResult.ARMED, InterruptResult.PROTECTED}
    go_on.release()
    interrupt_until_it_lands(target)

    assert isinstance(target.error, Stop)
    names = {entry.code.co_name for entry in profiler.getstats() if not isinstance(entry.code, str)}
    assert "profiled_in_the_end" in names


@pytest.mark.parametrize("profiler", [None, Observer()])
def test_nobody_sees_the_profile_function(core: ModuleType, profiler: Observer | None) -> None:
    """While our profile function is installed, sys.getprofile() returns the program's."""
    if profiler is not None:
        _skip_if_pure(core)
    seen: list[object] = []

    def look_around() -> None:
        seen.extend([scope.interrupt(Stop), sys.getprofile()])

    def function() -> None:
        sys.setprofile(profiler)
        try:
            with Protected(look_around):
                run_forever()
        finally:
            seen.append(sys.getprofile())
            sys.setprofile(None)

    def run() -> None:
        try:
            scope.run(function)
        except Stop:
            seen.append(sys.getprofile())

    scope = core.Scope()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_until(lambda: len(seen) >= 2, "the look around")
    while thread.is_alive():
        thread.join(0.001)
        scope.interrupt(Stop)

    assert seen[0] in {InterruptResult.ARMED, InterruptResult.PROTECTED}
    assert seen[1:] == [profiler, profiler, None]


def test_a_profiler_that_is_set_meanwhile_stays(core: ModuleType) -> None:
    """A profiler that replaces our profile function stays, and the interrupt is raised all the same."""
    _skip_if_pure(core)
    observer = Observer()
    seen: list[object] = []

    def look_around() -> None:
        seen.append(target.scope.interrupt(Stop))
        sys.setprofile(observer)

    def function() -> None:
        go_on.wait(PATIENCE)
        try:
            with Protected(look_around):
                run_forever()
        finally:
            seen.append(sys.getprofile())
            sys.setprofile(None)

    go_on = threading.Event()
    target = Target(core, function)
    go_on.set()
    while not seen:
        time.sleep(0)
    interrupt_until_it_lands(target)

    assert seen[0] in {InterruptResult.ARMED, InterruptResult.PROTECTED}
    assert seen[1:] == [observer]


def test_no_profile_function_is_left(core: ModuleType) -> None:
    """A scope that closes before a safe point leaves no profile function."""
    scope = core.Scope()
    seen: list[object] = []

    def look_around() -> None:
        seen.append(scope.interrupt(Stop))

    scope.run(Protected(look_around).__enter__)

    assert seen[0] in {InterruptResult.ARMED, InterruptResult.PROTECTED}
    assert sys.getprofile() is None


def _skip_if_pure(core: ModuleType) -> None:
    if core.__name__.endswith("_py"):
        pytest.skip("the pure-Python core cannot see the profiler of another thread")
