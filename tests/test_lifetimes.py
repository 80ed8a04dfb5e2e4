"""Scopes, threads, processes and interpreters may end in any order without wrong interrupts or crashes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import PATIENCE, ask_twice, needs_interrupts, needs_threads, run_forever, wait_until, wait_until_it_waits
from test_scope import Stop, Target

from dramatiq_abort.interrupt import InterruptResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

pytestmark = [
    needs_interrupts,
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),  # deliberately with threads
]

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def in_child(check: Callable[[], bool]) -> int:
    """Return the exit code of a forked process, which is 0 if the condition is true there."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(PATIENCE)
            code = not check()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def nothing_comes_up() -> bool:
    for number in range(1000):
        str(number)
    return True


class Protected:
    """Runs code where nothing may be raised."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function

    def __enter__(self) -> None:
        self._function()

    def __exit__(self, *_: object) -> None: ...


def test_scopes_outlive_their_threads(core: ModuleType) -> None:
    """Scopes close with their threads, and a later thread with the same ident or memory is not interrupted."""
    scopes = []
    for _ in range(50):
        target = Target(core, int).join()
        scopes.append(target.scope)
    started = [threading.Event() for _ in range(4)]
    others = [Target(core, run_forever, event) for event in started]
    assert all(event.wait(PATIENCE) for event in started)

    assert {scope.interrupt(Stop) for scope in scopes} == {InterruptResult.CLOSED}
    assert all(other.thread.is_alive() for other in others)
    for other in others:
        wait_until(lambda other=other: other.scope.interrupt(Stop) is InterruptResult.CLOSED)
        assert isinstance(other.join().error, Stop)


def test_a_shield_outlives_its_thread(core: ModuleType) -> None:
    """A shield in a generator may be closed after its thread has ended."""
    scope = core.Scope()

    def shielded() -> Iterator[None]:
        with scope.shield():
            yield

    generators = [shielded(), shielded()]
    thread = threading.Thread(target=scope.run, args=(next, (generators[0],)), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    generators[0].close()
    next(generators[1])
    generators[1].close()

    assert scope.interrupt(Stop) is InterruptResult.CLOSED


def test_a_scope_goes_when_its_call_has_ended(core: ModuleType) -> None:
    """A scope is freed after its call, whatever was raised in it, and even if the thread was in protected code."""
    freed = []

    class Last:
        def __del__(self) -> None:
            freed.append(True)

    def function(scope: Any, _: Last) -> None:
        Protected(lambda: scope.interrupt(Stop)).__enter__()

    scope = core.Scope()
    try:
        scope.run(function, (scope, Last()))
    except Stop:
        pass
    del scope
    gc.collect()

    assert freed == [True]


@needs_threads
@needs_fork
def test_a_scope_goes_on_in_the_child(core: ModuleType) -> None:
    """The scope of a thread that forks stays open in both processes, and can be interrupted in each."""
    pids: list[int] = []

    def interrupt() -> None:
        wait_until(lambda: scope.interrupt(Stop) is InterruptResult.CLOSED)

    def function() -> None:
        pids.append(os.fork())
        if pids[0] == 0:
            signal.alarm(PATIENCE)
        threading.Thread(target=interrupt, daemon=True).start()
        run_forever()

    scope = core.Scope()
    check_in_both(scope, function, pids)


@needs_threads
@needs_fork
def test_an_exception_on_its_way_goes_on_in_the_child(core: ModuleType) -> None:
    """After a fork, a deferred exception waits for the end of a shield or protected code in both processes."""
    pids: list[int] = []

    def fork() -> None:
        assert ask_twice(scope, Stop) in {InterruptResult.DEFERRED, InterruptResult.ARMED, InterruptResult.PROTECTED}
        pids.append(os.fork())
        if pids[0] == 0:
            signal.alarm(PATIENCE)

    def shielded() -> None:
        with scope.shield():
            fork()

    def protected() -> None:
        with Protected(fork):
            pass
        ask_twice(scope, Stop)  # the pure-Python core needs another interrupt

    for function in (shielded, protected):
        scope = core.Scope()
        check_in_both(scope, function, pids)
        pids.clear()


def check_in_both(scope: Any, function: Callable[[], None], pids: list[int]) -> None:
    """Run a function that forks: it must be interrupted in both processes, and raise nothing afterwards."""
    is_exact = False
    try:
        try:
            scope.run(function)
        except Stop:
            is_exact = (
                nothing_comes_up() and scope.interrupt(Stop) is InterruptResult.CLOSED and sys.getprofile() is None
            )
    finally:
        if pids[0] == 0:
            os._exit(not is_exact)

    assert is_exact
    assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 0


@pytest.mark.slow
@needs_threads
@needs_fork
@pytest.mark.parametrize("way", ["plain", "shielded", "protected"])
def test_a_scope_of_another_thread_is_nobodys_in_the_child(core: ModuleType, way: str) -> None:
    """Interrupting another thread's scope in the child does nothing, and the thread continues in the parent."""
    ready, reached, go_on = threading.Event(), threading.Event(), threading.Lock()
    go_on.acquire()

    def wait() -> None:
        reached.set()
        go_on.acquire()

    def function() -> None:
        assert ready.wait(PATIENCE)
        if way == "plain":
            wait()
        elif way == "shielded":
            with target.scope.shield():
                wait()
        else:
            Protected(wait).__enter__()
        run_forever()

    def check() -> bool:
        answer = target.scope.interrupt(Stop)
        started = threading.Event()
        other = Target(core, run_forever, started)  # in place of the thread that has ended
        assert started.wait(PATIENCE)
        for _ in range(10):
            target.scope.interrupt(Stop)
        del target.scope
        gc.collect()
        assert other.thread.is_alive()
        wait_until(lambda: other.scope.interrupt(Stop) is InterruptResult.CLOSED)
        assert isinstance(other.join().error, Stop)
        # The pure-Python core looks for the thread only after the shield.
        expected = {InterruptResult.CLOSED, InterruptResult.DEFERRED} if way == "shielded" else {InterruptResult.CLOSED}
        return nothing_comes_up() and answer in expected

    target = Target(core, function)
    ready.set()
    assert reached.wait(PATIENCE)
    wait_until_it_waits(target.thread)
    if way != "plain":
        assert target.scope.interrupt(Stop) in {
            InterruptResult.DEFERRED,
            InterruptResult.ARMED,
            InterruptResult.PROTECTED,
        }

    assert in_child(check) == 0
    go_on.release()
    wait_until(lambda: target.scope.interrupt(Stop) is InterruptResult.CLOSED)
    assert isinstance(target.join().error, Stop)
    assert target.late is None


@pytest.mark.slow
@needs_threads
def test_an_interpreter_ends_with_aborts_on_their_way(core: ModuleType) -> None:
    """An interpreter with pending aborts, in daemon threads and the main thread, ends normally."""
    script = Path(__file__).parent / "isolated" / "shutdown.py"
    words = [sys.executable, str(script), core.__name__]

    for _ in range(2):
        processes = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(4)]
        outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
        assert outputs == [b""] * 4
        assert [process.returncode for process in processes] == [0] * 4
