"""Aborts leave no reference, object or memory block behind, however they end."""

from __future__ import annotations

import _thread
import gc
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support import PATIENCE, ask_twice, in_c, needs_interrupts, needs_threads, wait_until

from dramatiq_abort.interrupt import InterruptResult

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

pytestmark = [needs_interrupts, needs_threads, pytest.mark.newest_dependencies]

#: The number of aborts of each kind: more than 100,000 in total.
ABORTS = 12_000


class Stop(BaseException):
    """The exception that interrupts."""


class Argument:
    """The argument of the functions."""


ARGUMENT = Argument()


class Protected:
    """Interrupts its own scope where nothing may be raised."""

    def __init__(self, scope: Any) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        ask_twice(self._scope, Stop)

    def __exit__(self, *_: object) -> None: ...


def nothing(scope: Any, *, argument: Argument) -> None: ...


def interrupt_itself(scope: Any, *, argument: Argument) -> None:
    ask_twice(scope, Stop)


def interrupt_itself_again(scope: Any, *, argument: Argument) -> None:
    try:
        ask_twice(scope, Stop)
    except Stop:
        assert scope.rearm()
    ask_twice(scope, Stop)


def interrupt_behind_shield(scope: Any, *, argument: Argument) -> None:
    with scope.shield():
        assert scope.interrupt(Stop) is InterruptResult.DEFERRED


def interrupt_where_protected(scope: Any, *, argument: Argument) -> None:
    with Protected(scope):
        pass


FUNCTIONS = (nothing, interrupt_itself, interrupt_itself_again, interrupt_behind_shield, interrupt_where_protected)


def run(scope: Any, function: Callable[..., None]) -> None:
    scope.run(function, (scope,), {"argument": ARGUMENT})


def abort_at_once(scope: Any) -> None:
    run(scope, interrupt_itself)


def abort_again(scope: Any) -> None:
    run(scope, interrupt_itself_again)


def abort_behind_shield(scope: Any) -> None:
    run(scope, interrupt_behind_shield)


def abort_at_safe_place(scope: Any) -> None:
    """Abort through the compiled core's profile function; with the other core, do nothing."""
    run(scope, interrupt_where_protected)


def abort_without_safe_place(scope: Any) -> None:
    """Do the same, but close the scope before a safe point is reached."""
    scope.run(Protected(scope).__enter__)


def abort_before(scope: Any) -> None:
    assert scope.interrupt(Stop) is InterruptResult.DEFERRED
    run(scope, nothing)


def abort_afterwards(scope: Any) -> None:
    run(scope, nothing)
    assert scope.interrupt(Stop) is InterruptResult.CLOSED


def measure() -> list[int]:
    """Count references to all objects that an abort touches, and memory blocks."""
    gc.collect()
    codes = [function.__code__ for function in FUNCTIONS]
    things = (Stop, ARGUMENT, *FUNCTIONS, *codes, globals())
    return [sys.getrefcount(thing) for thing in things] + [sys.getallocatedblocks()]


def assert_flat(before: list[int]) -> None:
    """Check that no count has grown by nearly one per abort."""
    assert max(now - then for now, then in zip(measure(), before, strict=True)) < ABORTS // 10


@pytest.mark.parametrize(
    "abort",
    [
        abort_at_once,
        abort_again,
        abort_behind_shield,
        abort_at_safe_place,
        abort_without_safe_place,
        abort_before,
        abort_afterwards,
    ],
)
def test_aborts_from_the_same_thread_leave_nothing(core: ModuleType, abort: Callable[[Any], None]) -> None:
    """Aborts raised at once, again, after a shield, at a safe point, before the call or never leave nothing."""
    is_raised = abort not in {abort_without_safe_place, abort_afterwards}
    if abort is abort_at_safe_place and core.__name__.endswith("_py"):
        is_raised = False

    def times(number: int) -> int:
        raised = 0
        for _ in range(number):
            try:
                abort(core.Scope())
            except Stop:
                raised += 1
        return raised

    times(10)
    before = measure()

    assert times(ABORTS) == ABORTS * is_raised
    assert_flat(before)


@pytest.mark.parametrize("lands", [True, False])
def test_aborts_from_another_thread_leave_nothing(core: ModuleType, lands: bool) -> None:
    """Aborts raised after a wait in C code, or too late after the function's end, leave nothing."""
    scopes: list[Any] = [None]
    go, done = _thread.allocate_lock(), _thread.allocate_lock()
    go.acquire()
    done.acquire()
    raised = []

    def wait() -> None:
        in_c(done.release, go.acquire)()

    def work(number: int) -> None:
        count = 0
        for _ in range(number):
            scopes[0] = scope = core.Scope()
            try:
                scope.run(wait if lands else in_c(done.release, go.acquire))
            except Stop:
                count += 1
        raised.append(count)

    def times(number: int) -> int:
        thread = threading.Thread(target=work, args=(number,), daemon=True)
        thread.start()
        for _ in range(number):
            assert done.acquire(timeout=PATIENCE)
            wait_until(lambda: scopes[0].interrupt(Stop) is InterruptResult.RAISED)
            go.release()
        thread.join(PATIENCE)
        return raised.pop()

    times(10)
    before = measure()

    assert times(ABORTS) == ABORTS * lands
    assert_flat(before)
