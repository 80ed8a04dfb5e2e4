"""A lock that is taken before a try statement, or by an exit stack, is given back when the task is aborted (3.1)."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, Any

import pytest
from support import GREENLETS, PATIENCE, needs_interrupts, needs_threads, run_forever, wait_until_it_waits
from test_safe_points import Storm, compiled_only, interrupt_until_it_lands
from test_scope import Stop, Target

from dramatiq_abort.interrupt import Answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

pytestmark = needs_interrupts


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


def acquire_with_long_instructions(lock: Any) -> None:
    """So many names that the number of one, and the way to the next line, need more than a byte."""
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


def release_in_python(lock: Any) -> None:
    def release() -> None:
        for number in range(10):
            str(number)
        lock.release()

    lock.acquire()
    try:
        run_forever()
    finally:
        release()


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
    *(release_in_python, call_the_standard_library, enter_a_stack),
]


def go_on_acquiring(lock: Any) -> None:
    while True:
        lock.acquire()
        try:
            abs(1)
        finally:
            lock.release()


def go_on_releasing_in_python(lock: Any) -> None:
    def release() -> None:
        for number in range(10):
            str(number)
        lock.release()

    while True:
        lock.acquire()
        try:
            abs(1)
        finally:
            release()


def go_on_calling_the_standard_library(lock: Any) -> None:
    jar = CookieJar()
    jar._cookies_lock = lock  # type: ignore[attr-defined]
    while True:
        jar.clear_session_cookies()


def go_on_entering_stacks(lock: Any) -> None:
    while True:
        with ExitStack() as stack:
            stack.enter_context(lock)


LOOPS = [go_on_acquiring, go_on_releasing_in_python, go_on_calling_the_standard_library, go_on_entering_stacks]


@pytest.mark.parametrize("make_lock", [threading.Lock, threading.RLock])
@pytest.mark.parametrize("function", WAYS)
def test_who_waits_for_a_lock_gives_it_back(
    core: ModuleType, function: Callable[[Any], None], make_lock: Callable[[], Any]
) -> None:
    """An abort does not come up between the end of the wait and the place from where the lock is given back."""
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
        if not GREENLETS:  # who waits for one of those does not get it
            assert answers <= {Answer.ARMED, Answer.PROTECTED}


@needs_threads
@pytest.mark.parametrize("function", LOOPS)
def test_a_storm_over_threads_that_share_a_lock(core: ModuleType, function: Callable[[Any], None]) -> None:
    """Nor right behind a call that did not wait; and none of them starves."""
    compiled_only(core)
    lock = threading.Lock()

    storm = Storm(core, partial(function, lock), threads=4)
    storm.rage(each=100)

    assert lock.acquire(timeout=1)
