"""What is measured of the core and of the middleware: single operations, each as a function that repeats it.

``ratios.py`` and ``test_core.py`` import them. ``gate.py`` runs them, over whatever version is installed:

- ``python benchmarks/operations.py time REPETITIONS OPERATION`` repeats it so many times for each line that it reads,
  and answers with the nanoseconds of processor time that one of them took.
- ``python benchmarks/operations.py count REPETITIONS OPERATION...`` repeats one after the other so many times, and then
  twice as many, each between two calls of ``getppid``, where callgrind begins a new count.
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

    #: Does something so many times.
    Repeated: TypeAlias = Callable[[int], object]

CORES = {"cython": "dramatiq_abort._interrupt", "python": "dramatiq_abort._core.interrupt_py"}


class Stop(BaseException):
    """What a call is interrupted with."""


def call() -> None:
    """What is called: it does nothing."""


def bare_call() -> Repeated:
    """The call, with nothing around it."""

    def repeated(times: int) -> None:
        for _ in repeat(None, times):
            call()

    return repeated


def scope() -> Repeated:
    """The call, in a scope of its own."""
    new_scope = interrupt.Scope

    def repeated(times: int) -> None:
        for _ in repeat(None, times):
            new_scope().run(call)

    return repeated


def shield() -> Repeated:
    """A shield in an open scope, with nothing in it."""
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
    """A call that raises an exception by itself, which is caught."""

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
    """A call that has dramatiq's own function raise the exception in its thread, where it comes up and is caught."""
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
    """The same with a scope: a call that interrupts the scope it runs in, where the exception comes up."""
    new_scope = interrupt.Scope

    def repeated(times: int) -> None:
        def fail() -> None:
            current.interrupt(Stop)
            call()  # not reached: it has come up behind the line above
            raise AssertionError("nothing has come up")

        for _ in repeat(None, times):
            current = new_scope()
            try:
                current.run(fail)
            except Stop:
                pass

    return repeated


def waiting_thread() -> tuple[interrupt.Scope, int, Callable[[], object]]:
    """Start a thread that waits in a scope for ever; return the scope, its id, and what empties its slot."""
    scope, is_locked, began = interrupt.Scope(), threading.Lock(), threading.Event()
    is_locked.acquire()

    def wait() -> None:
        began.set()
        is_locked.acquire()

    thread = threading.Thread(target=scope.run, args=(wait,), daemon=True)
    thread.start()
    began.wait()
    time.sleep(0.01)  # nothing tells that it waits
    assert thread.ident is not None
    clear, ident, nothing = ctypes.pythonapi.PyThreadState_SetAsyncExc, ctypes.c_ulong(thread.ident), ctypes.c_void_p()

    def take_out() -> None:
        clear(ident, nothing)
        scope.rearm()

    return scope, thread.ident, take_out


def bare_taking_out() -> Repeated:
    """To take an exception out of the slot of a thread that waits; there is none."""
    _, _, take_out = waiting_thread()

    def repeated(times: int) -> None:
        for _ in repeat(None, times):
            take_out()

    return repeated


def dramatiq_setting() -> Repeated:
    """To have dramatiq's own function put one in first."""
    _, thread, take_out = waiting_thread()

    def repeated(times: int) -> None:
        for _ in repeat(None, times):
            raise_thread_exception(thread, Stop)
            take_out()

    return repeated


def scope_setting() -> Repeated:
    """To interrupt the thread's scope first, until it says that it has raised the exception. Not for the pure core."""
    scope, _, take_out = waiting_thread()
    raised = InterruptResult.RAISED

    def repeated(times: int) -> None:
        for _ in repeat(None, times):
            while scope.interrupt(Stop) is not raised:  # it may say first that it cannot yet
                pass
            take_out()

    return repeated


def message() -> Repeated:
    """What this package does for a message: the hooks before and after it, and the call of its actor's function."""
    middleware = Abortable()
    broker = StubBroker(middleware=[middleware])

    @actor(broker=broker)
    def task() -> None: ...

    broker.emit_before("worker_boot", Worker(broker, worker_threads=1))
    # The same id in each run: how long a dictionary looks for a key depends on the key.
    proxy = MessageProxy(task.message().copy(message_id="a9b7ba70-783b-317e-9998-dc4dd82eb3c5"))
    before, after = middleware.before_process_message, middleware.after_process_message

    def repeated(times: int) -> None:
        for _ in repeat(None, times):
            before(broker, proxy)
            after(broker, proxy, result=task.fn())

    return repeated


def prepared(operation: Callable[[], Repeated], core: str = "cython") -> Repeated:
    """Return what repeats an operation, over one of the cores."""
    module = importlib.import_module(CORES[core])
    with ExitStack() as stack:
        stack.enter_context(patch("dramatiq_abort.interrupt.Scope", module.Scope))
        if core == "python":  # not at the top: a version that the gate compares with may have none
            chosen = importlib.import_module("dramatiq_abort._worker.hooks_py")
            for name in ("ScopedCall", "MessageHooks"):
                stack.enter_context(patch(f"dramatiq_abort._worker.hooks.{name}", getattr(chosen, name)))
        repeated = operation()
    repeated(200)  # CPython adapts its code to what it meets
    return repeated


def nanoseconds(repeated: Repeated, times: int) -> float:
    """Measure how much processor time of this thread one repetition takes."""
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
