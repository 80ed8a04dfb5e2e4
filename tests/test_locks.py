"""A lock acquired before a ``try`` statement, or by an exit stack, is released when the task is aborted (1)."""

from __future__ import annotations

import queue
import sys
import threading
from contextlib import ExitStack
from functools import partial
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, Any

import pytest
from support import GREENLETS, PATIENCE, needs_gil, needs_interrupts, needs_threads, run_forever, wait_until_it_waits
from test_safe_points import Storm, compiled_only, interrupt_until_it_lands
from test_scope import Stop, Target

from dramatiq_abort.interrupt import InterruptResult

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

pytestmark = [needs_interrupts, needs_gil, pytest.mark.sanitized]


def acquire(lock: Any) -> None:
    lock.acquire()
    try:
        run_forever()
    finally:
        lock.release()


def acquire_for_a_time(lock: Any) -> None:
    lock.acquire(timeout=float(PATIENCE))
    try:
        run_forever()
    finally:
        lock.release()


def acquire_if(lock: Any) -> None:
    if lock.acquire(True, PATIENCE):
        try:
            run_forever()
        finally:
            lock.release()


def acquire_or_go(lock: Any) -> None:
    if not lock.acquire(True, PATIENCE):
        return
    try:
        run_forever()
    finally:
        lock.release()


def acquire_and_remember(lock: Any) -> None:
    is_mine = lock.acquire(True, PATIENCE)
    try:
        run_forever()
    finally:
        if is_mine:
            lock.release()


def acquire_and_keep(lock: Any) -> None:
    class Keeper:
        lock: bool

    keeper = Keeper()
    keeper.lock = lock.acquire(True, PATIENCE)
    try:
        run_forever()
    finally:
        lock.release()


def acquire_with_long_instructions(lock: Any) -> None:
    """Have enough names that their numbers, and the distance to the next line, need more than a byte."""
    exec(LONG, {"lock": lock, "run_forever": run_forever})


NAMES = [f"name_{number}" for number in range(300)]
LONG = f"""
{" = ".join(NAMES)} = 1
if not lock.acquire(True, 60):
    raise ValueError({" + ".join(NAMES)})
try:
    run_forever()
finally:
    lock.release()
"""


def call_the_standard_library(lock: Any) -> None:
    jar = CookieJar()
    jar._cookies_lock = lock  # type: ignore[attr-defined]
    jar.clear_session_cookies()
    run_forever()


def enter_a_stack(lock: Any) -> None:
    with ExitStack() as stack:
        stack.enter_context(lock)
        run_forever()


WAYS = [
    *(acquire, acquire_for_a_time, acquire_if, acquire_or_go, acquire_and_remember, acquire_with_long_instructions),
    *(acquire_and_keep, call_the_standard_library, enter_a_stack),
]


def go_on_acquiring(lock: Any) -> None:
    while True:
        lock.acquire()
        try:
            abs(1)
        finally:
            lock.release()


def go_on_trying(lock: Any) -> None:
    while True:
        while not lock.acquire(timeout=0.001):
            pass
        try:
            abs(1)
        finally:
            lock.release()


def go_on_calling_the_standard_library(lock: Any) -> None:
    jar = CookieJar()
    jar._cookies_lock = lock  # type: ignore[attr-defined]
    while True:
        jar.clear_session_cookies()


def go_on_entering_stacks(lock: Any) -> None:
    while True:
        with ExitStack() as stack:
            stack.enter_context(lock)


def go_on_returning(lock: Any) -> None:
    """Return from nested ``with`` blocks: only the outer one covers what follows the call."""

    def both() -> int:
        with other, lock:
            return abs(-1)

    other = threading.Lock()
    while True:
        both()


LOOPS = [go_on_returning, go_on_acquiring, go_on_trying, go_on_calling_the_standard_library, go_on_entering_stacks]


@pytest.mark.parametrize("make_lock", [threading.Lock, threading.RLock])
@pytest.mark.parametrize("function", WAYS)
def test_who_waits_for_a_lock_gives_it_back(
    core: ModuleType, function: Callable[[Any], None], make_lock: Callable[[], Any]
) -> None:
    """No abort is raised between the end of the wait and the block that releases the lock."""
    lock = make_lock()
    for _ in range(3):
        lock.acquire()
        target = Target(core, function, lock)
        wait_until_it_waits(target.thread)
        answers = {target.scope.interrupt(Stop) for _ in range(3)}
        lock.release()
        interrupt_until_it_lands(target)

        assert isinstance(target.error, Stop)
        assert lock.acquire(blocking=False)
        lock.release()
        if not GREENLETS:  # a wait for one of these does not acquire it
            assert answers <= {InterruptResult.ARMED, InterruptResult.PROTECTED}


def test_the_first_interrupt_in_a_code_is_as_good_as_any(core: ModuleType) -> None:
    """The core analyses a code object before the first interrupt in it returns."""
    compiled_only(core)
    lock = threading.Lock()
    lock.acquire()
    target = Target(core, acquire_with_long_instructions, lock)
    wait_until_it_waits(target.thread)
    answer = target.scope.interrupt(Stop)
    lock.release()
    interrupt_until_it_lands(target)

    assert answer is InterruptResult.ARMED
    assert lock.acquire(blocking=False)


@pytest.mark.slow
@needs_threads
@pytest.mark.skipif(sys.version_info < (3, 11), reason="CPython 3.10 looks at its slot at the beginning of a handler")
def test_a_call_that_fails_by_itself_is_handled(core: ModuleType) -> None:
    """A call's own exception reaches all its handlers; the abort comes later, if there is time."""
    nothing: queue.SimpleQueue[int] = queue.SimpleQueue()
    lock = threading.Lock()
    steps: list[str] = []

    def function() -> None:
        try:
            with lock:
                nothing.get(timeout=3)
        finally:
            steps.append("finally")

    target = Target(core, function)
    wait_until_it_waits(target.thread)
    target.scope.interrupt(Stop)
    target.join()

    assert isinstance(target.error, (queue.Empty, Stop))
    assert steps == ["finally"]
    assert not lock.locked()


def try_until(lock: Any) -> None:
    while not lock.acquire(timeout=0.001):
        pass
    try:
        run_forever()
    finally:
        lock.release()


def try_each_time(lock: Any) -> None:
    while True:
        if lock.acquire(timeout=0.001):
            try:
                run_forever()
            finally:
                lock.release()


def try_without_waiting(lock: Any) -> None:
    while True:
        if not lock.acquire(blocking=False):
            continue
        try:
            run_forever()
        finally:
            lock.release()


@needs_threads
@pytest.mark.parametrize("function", [try_until, try_each_time, try_without_waiting])
def test_who_tries_again_and_again_is_stopped(core: ModuleType, function: Callable[[Any], None]) -> None:
    """A loop that only retries a lock that is held all the time is interrupted."""
    lock = threading.Lock()
    lock.acquire()
    for _ in range(3):
        target = Target(core, function, lock)
        interrupt_until_it_lands(target)
        assert isinstance(target.error, Stop)


@pytest.mark.slow
@needs_threads
@pytest.mark.parametrize("function", LOOPS)
def test_a_storm_over_threads_that_share_a_lock(core: ModuleType, function: Callable[[Any], None]) -> None:
    """In threads that share a lock, no abort is raised directly after an acquire, and no thread starves."""
    compiled_only(core)
    lock = threading.Lock()

    storm = Storm(core, partial(function, lock), threads=4)
    storm.rage(each=100)

    assert lock.acquire(timeout=1)
