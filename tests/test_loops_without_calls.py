"""A loop that calls nothing, or whose calls all fail in protected code, is interrupted at its jump backwards (5)."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pytest
from loop_shapes import ENDLESS_CALLS, ENDLESS_TRIES, LOOPS, STEP, operator, slow
from support import PATIENCE, needs_interrupts, needs_threads, run_forever
from test_safe_points import interrupt_once_in_a_while
from test_scope import Stop, Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

pytestmark = [needs_interrupts, needs_threads]


def follows_none(core: ModuleType) -> bool:
    """Return whether this core cannot follow a thread to its next jump."""
    return core.__name__.endswith("_py") and sys.version_info < (3, 12)


@pytest.mark.slow
@pytest.mark.parametrize("function", LOOPS)
def test_every_loop_ends(core: ModuleType, function: Callable[[], None]) -> None:
    """Every endless loop soon ends with the scope's own exception."""
    if follows_none(core) and (function in ENDLESS_CALLS or (sys.version_info < (3, 11) and function in ENDLESS_TRIES)):
        pytest.skip("the pure-Python core cannot follow a thread before CPython 3.12")
    for _ in range(3):
        target = started(core, function)
        interrupt_once_in_a_while(target)
        assert isinstance(target.error, Stop)


@pytest.mark.parametrize("function", [operator, *ENDLESS_CALLS])
def test_a_followed_loop_is_left_as_it_was(core: ModuleType, function: Callable[[], None]) -> None:
    """No trace function and no monitoring remain on the thread, its frame and its code."""
    if follows_none(core) and function in ENDLESS_CALLS:
        pytest.skip("the pure-Python core cannot follow a thread before CPython 3.12")
    left = []

    def catch() -> None:
        try:
            function()
        except Stop:
            left.append((sys.gettrace(), sys.getprofile(), sys._getframe().f_trace_opcodes))
            raise

    target = started(core, catch)
    interrupt_once_in_a_while(target)

    assert isinstance(target.error, Stop)
    assert left == [(None, None, False)]
    if sys.version_info >= (3, 12):
        tools = [tool for tool in range(6) if sys.monitoring.get_tool(tool) is not None]
        assert not any(sys.monitoring.get_local_events(tool, function.__code__) for tool in tools)


def test_a_tracer_of_the_task_is_left_alone(core: ModuleType) -> None:
    """Before 3.12, a thread's own trace function stays, and the abort is raised after such a loop."""
    left = []

    def trace(frame: object, event: str, argument: object) -> object:
        return trace

    def function() -> None:
        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            for _ in range(50):
                slow @ STEP
            run_forever()
        finally:
            left.append(sys.gettrace())
            sys.settrace(None)

    target = started(core, function)
    interrupt_once_in_a_while(target)

    assert isinstance(target.error, Stop)
    assert left == [trace]


def started(core: ModuleType, function: Callable[[], None]) -> Target:
    """Return a thread that runs this in a scope."""
    has_started = threading.Event()

    def run() -> None:
        has_started.set()
        function()

    target = Target(core, run)
    assert has_started.wait(PATIENCE)
    return target
