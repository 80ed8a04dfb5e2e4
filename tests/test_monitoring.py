"""``sys.monitoring`` watches only threads that would otherwise look at their slot too late (1)."""

from __future__ import annotations

import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from support import PATIENCE, needs_interrupts, needs_threads, run_forever, wait_until, wait_until_it_waits
from test_lifetimes import in_child, needs_fork
from test_safe_points import compiled_only, interrupt_until_it_lands, is_watched
from test_scope import Stop, Target

from dramatiq_abort.interrupt import InterruptResult

if TYPE_CHECKING:
    from types import CodeType, ModuleType

pytestmark = [
    needs_interrupts,
    needs_threads,
    pytest.mark.skipif(sys.version_info < (3, 13), reason="a thread that goes on looks at its slot at once"),
]


def wait_there(gate: Any) -> None:
    gate.acquire()
    run_forever()


def held_up(core: ModuleType) -> tuple[Target, Any]:
    """Return a waiting thread, and the lock that it waits for."""
    gate = threading.Lock()
    gate.acquire()
    target = Target(core, wait_there, gate)
    wait_until_it_waits(target.thread)
    return target, gate


@pytest.mark.parametrize("tool", [None, "somebody else's"])
def test_a_thread_that_waits_is_interrupted_there(
    core: ModuleType, tool: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If its code cannot be watched, a waiting thread is interrupted at the second look, when it is not runnable."""
    compiled_only(core)
    if tool is not None:
        monkeypatch.setattr(sys.monitoring, "get_tool", lambda _: tool)
    target, gate = held_up(core)
    answers = [target.scope.interrupt(Stop) for _ in range(3)]
    gate.release()
    target.join()

    assert answers == [
        InterruptResult.ARMED if tool else InterruptResult.RAISED,
        InterruptResult.RAISED,
        InterruptResult.RAISED,
    ]
    assert isinstance(target.error, Stop)
    assert gate.locked()  # it was raised directly after that call


def test_code_is_watched_for_as_long_as_it_must_be(core: ModuleType) -> None:
    """Code is watched until each thread to be interrupted in it has moved on, or has not moved for long."""
    compiled_only(core)
    targets, gates = zip(*(held_up(core) for _ in range(3)), strict=True)
    watched = [is_watched(wait_there)]
    for target in targets:
        assert target.scope.interrupt(Stop) is InterruptResult.RAISED
    for gate, target in zip(gates[:2], targets, strict=False):
        watched.append(is_watched(wait_there))
        gate.release()
        target.join()
    watched.append(is_watched(wait_there))
    wait_until(lambda: (targets[2].scope.interrupt(Stop), not is_watched(wait_there))[1], "the end of the watch")
    gates[2].release()
    targets[2].join()

    assert watched == [False, True, True, True]
    assert all(isinstance(target.error, Stop) for target in targets)


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # deliberately with threads
def test_nobody_is_watched_in_the_child_of_a_fork(core: ModuleType) -> None:
    """In a forked child, which lacks the thread to be interrupted, nothing is watched."""
    compiled_only(core)
    target, gate = held_up(core)
    assert target.scope.interrupt(Stop) is InterruptResult.RAISED
    exit_code = in_child(lambda: not is_watched(wait_there))
    is_watched_here = is_watched(wait_there)
    gate.release()
    target.join()

    assert exit_code == 0
    assert is_watched_here
    assert isinstance(target.error, Stop)


def test_a_monitoring_tool_is_left_alone(core: ModuleType) -> None:
    """A monitoring tool is not called with a pending exception, which would be raised in it."""
    compiled_only(core)
    monitoring, tool = sys.monitoring, sys.monitoring.COVERAGE_ID
    called: set[int] = set()

    def callback(_: CodeType, line: int) -> None:
        called.add(line)

    def function(started: threading.Event) -> None:
        started.set()
        number = 0
        while True:
            number += 1

    monitoring.use_tool_id(tool, "a test")
    try:
        monitoring.register_callback(tool, monitoring.events.LINE, callback)
        monitoring.set_local_events(tool, function.__code__, monitoring.events.LINE)
        for _ in range(30):
            started = threading.Event()
            target = Target(core, function, started)
            assert started.wait(PATIENCE)
            interrupt_until_it_lands(target)
            assert isinstance(target.error, Stop)
            passed = [frame.f_code.co_name for frame, _ in traceback.walk_tb(target.error.__traceback__)]
            assert "callback" not in passed
    finally:
        monitoring.free_tool_id(tool)

    assert len(called) >= 2
