"""The operations of the core and the middleware that benchmarks measure, each as a function that repeats it.

``ratios.py`` and ``test_core.py`` import them. ``gate.py`` runs them with the version under test:

- ``python benchmarks/operations.py time REPETITIONS OPERATION`` runs the repetitions once for each line that it reads,
  and prints the nanoseconds of processor time per repetition.
- ``python benchmarks/operations.py count REPETITIONS OPERATION...`` runs each operation in turn, first with that number
  of repetitions and then with twice as many, each between two calls of ``getppid``, where callgrind begins a new count.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import sys
import threading
import time
from contextlib import ExitStack
from itertools import repeat
from typing import TYPE_CHECKING, TypeAlias
from unittest.mock import patch

from dramatiq import Worker, actor
from dramatiq.broker import MessageProxy
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware.threading import raise_thread_exception

from dramatiq_abort import Abortable, interrupt
from dramatiq_abort.interrupt import InterruptResult

if TYPE_CHECKING:
    from collections.abc import Callable

    #: Repeats an operation the given number of times.
    Repeated: TypeAlias = Callable[[int], object]

CORES = {"cython": "dramatiq_abort._interrupt", "python": "dramatiq_abort._core.interrupt_py"}


class Stop(BaseException):
    """The exception that interrupts a call."""


def call() -> None:
    """Do nothing: the function that is called."""


def bare_call() -> Repeated:
    """Repeat the bare call."""

    def repeated(times: int) -> None:
        for _ in repeat(None, times):
            call()

    return repeated


def scope() -> Repeated:
    """Repeat the call, each time in a new scope."""
    new_scope = interrupt.Scope

    def repeated(times: int) -> None:
        for _ in repeat(None, times):
            new_scope().run(call)

    return repeated


def shield() -> Repeated:
    """Repeat an empty shield in an open scope."""
    new_scope = interrupt.Scope

    def repeated(times: int) -> None:
        scope = new_scope()

        def enter() -> None:
            for _ in repeat(None, times):
                with scope.shield():
                    pass

        scope.run(enter)

    return repeated


def bare_raise() -> Repeated:
    """Repeat a call that raises an exception itself, and catch it."""

    def fail() -> None:
        raise Stop

    def repeated(times: int) -> None:
        for _ in repeat(None, times):
            try:
                fail()
            except Stop:
                pass

    return repeated


def dramatiq_interrupt() -> Repeated:
    """Repeat a call in which dramatiq's own function raises an exception in the current thread, and catch it."""
    thread = threading.get_ident()

    def fail() -> None:
        raise_thread_exception(thread, Stop)
        call()
        raise AssertionError("nothing has come up")

    def repeated(times: int) -> None:
        for _ in repeat(None, times):
            try:
                fail()
            except Stop:
                pass

    return repeated


def scope_interrupt() -> Repeated:
    """Repeat the same with a scope: a call that interrupts its own scope, in which the exception is raised."""
    new_scope = interrupt.Scope

    def repeated(times: int) -> None:
        def fail() -> None:
            current.interrupt(Stop)
            call()  # not reached: the line above raises
            raise AssertionError("nothing has come up")

        for _ in repeat(None, times):
            current = new_scope()
            try:
                current.run(fail)
            except Stop:
                pass

    return repeated


def waiting_thread() -> tuple[interrupt.Scope, int, Callable[[], object]]:
    """Start a thread that waits forever in a scope. Return the scope, thread id, and a function to clear its slot."""
    scope, is_locked, began = interrupt.Scope(), threading.Lock(), threading.Event()
    is_locked.acquire()

    def wait() -> None:
        began.set()
        is_locked.acquire()

    thread = threading.Thread(target=scope.run, args=(wait,), daemon=True)
    thread.start()
    began.wait()
    time.sleep(0.01)  # nothing signals that it is waiting
    assert thread.ident is not None
    clear, ident, nothing = ctypes.pythonapi.PyThreadState_SetAsyncExc, ctypes.c_ulong(thread.ident), ctypes.c_void_p()

    def take_out() -> None:
        clear(ident, nothing)
        scope.rearm()

    return scope, thread.ident, take_out


def bare_taking_out() -> Repeated:
    """Repeat emptying the slot of a waiting thread, which is empty already."""
    _, _, take_out = waiting_thread()

    def repeated(times: int) -> None:
        for _ in repeat(None, times):
            take_out()

    return repeated


def dramatiq_setting() -> Repeated:
    """Repeat the same after dramatiq's own function has filled the slot."""
    _, thread, take_out = waiting_thread()

    def repeated(times: int) -> None:
        for _ in repeat(None, times):
            raise_thread_exception(thread, Stop)
            take_out()

    return repeated


def scope_setting() -> Repeated:
    """Repeat the same after interrupting the thread's scope until it returns RAISED. Not for the pure-Python core."""
    scope, _, take_out = waiting_thread()
    raised = InterruptResult.RAISED

    def repeated(times: int) -> None:
        for _ in repeat(None, times):
            while scope.interrupt(Stop) is not raised:  # the first attempts may be refused
                pass
            take_out()

    return repeated


def message() -> Repeated:
    """Repeat this package's share of a message: the hooks before and after it, and the call of its actor's function."""
    middleware = Abortable()
    broker = StubBroker(middleware=[middleware])

    @actor(broker=broker)
    def task() -> None: ...

    broker.emit_before("worker_boot", Worker(broker, worker_threads=1))
    # The same id in each run: the time of a dictionary's lookup depends on the key.
    proxy = MessageProxy(task.message().copy(message_id="a9b7ba70-783b-317e-9998-dc4dd82eb3c5"))
    before, after = middleware.before_process_message, middleware.after_process_message

    def repeated(times: int) -> None:
        for _ in repeat(None, times):
            before(broker, proxy)
            after(broker, proxy, result=task.fn())

    return repeated


def prepared(operation: Callable[[], Repeated], core: str = "cython") -> Repeated:
    """Return a function that repeats an operation with one of the cores."""
    module = importlib.import_module(CORES[core])
    with ExitStack() as stack:
        stack.enter_context(patch("dramatiq_abort.interrupt.Scope", module.Scope))
        if core == "python":  # not at the top: the gate's base version may not have this module
            hooks_py = importlib.import_module("dramatiq_abort._worker.hooks_py")
            for name in ("ScopedCall", "MessageHooks"):
                stack.enter_context(patch(f"dramatiq_abort._worker.hooks.{name}", getattr(hooks_py, name)))
        repeated = operation()
    repeated(200)  # CPython specializes code as it runs
    return repeated


def nanoseconds(repeated: Repeated, times: int) -> float:
    """Return the processor time of this thread per repetition."""
    began = time.thread_time_ns()
    repeated(times)
    return (time.thread_time_ns() - began) / times


def main() -> None:
    what, times, names = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    gc.disable()
    for repeated in (prepared(globals()[name]) for name in names):
        if what == "time":
            for _ in sys.stdin:
                print(nanoseconds(repeated, times), flush=True)
        else:
            os.getppid()
            repeated(times)
            os.getppid()
            repeated(2 * times)
            os.getppid()


if __name__ == "__main__":
    main()
