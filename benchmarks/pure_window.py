"""Measure the pure-Python core's window, from its look at a thread to the exception in that thread's slot.

``python benchmarks/pure_window.py [INTERRUPTS]`` interrupts threads that alternate between logging and computing. It
prints the time from the look to the setting, and the number of exceptions that were raised in protected code because
the thread had moved on in between. The compiled core has no such window: its target threads stand still.
"""

from __future__ import annotations

import ctypes
import io
import logging
import statistics
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from dramatiq_abort._core import interrupt_py
from dramatiq_abort._core.protected_code import PROTECTED_FUNCTIONS
from dramatiq_abort._core.safe_points import WAITS, is_protected

if TYPE_CHECKING:
    from types import TracebackType

THREADS = 4


class Stop(BaseException):
    """The exception that interrupts the threads."""


class Stopwatch(interrupt_py.Scope):
    """A scope that records the time of its look at the thread."""

    __slots__ = ()
    looked = 0

    def _is_at_safe_point(self) -> bool:
        safe = super()._is_at_safe_point()
        Stopwatch.looked = time.perf_counter_ns()
        return safe


def timed_setting(nanoseconds: list[int]) -> Any:
    """Return a ``PyThreadState_SetAsyncExc`` that records the time since the look."""
    set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc

    def measured(*words: object) -> int:
        found = set_async_exc(*words)
        nanoseconds.append(time.perf_counter_ns() - Stopwatch.looked)
        return int(found)

    return measured


def is_in_protected_code(traceback: TracebackType | None) -> bool:
    """Return whether the exception was raised in a forbidden place: in protected code that is not waiting."""
    protected = waits = False
    while traceback is not None:
        code = traceback.tb_frame.f_code
        protected |= (
            is_protected(str(traceback.tb_frame.f_globals.get("__name__"))) or code.co_name in PROTECTED_FUNCTIONS
        )
        waits = traceback.tb_lasti in WAITS.get(code, ())
        traceback = traceback.tb_next
    return protected and not waits


class Victim:
    """A thread that logs and computes, in one scope after another."""

    def __init__(self) -> None:
        # Not shared: a thread that waits for another's lock would be looked at only there.
        self._logger = logging.Logger("window")  # noqa: LOG001
        self._logger.addHandler(logging.StreamHandler(io.StringIO()))
        self.landed = self.in_protected_code = 0
        self.scope = Stopwatch()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self.scope.run(self._work)
            except Stop as stop:
                self.landed += 1
                traceback = stop.__traceback__
                while traceback is not None and traceback.tb_frame.f_code is not Victim._work.__code__:
                    traceback = traceback.tb_next
                self.in_protected_code += is_in_protected_code(traceback)
            self.scope = Stopwatch()

    def _work(self) -> None:
        while True:
            self._logger.warning("a line")
            sum(range(2_000))


def main() -> None:
    interrupts = int(sys.argv[1]) if sys.argv[1:] else 5_000
    nanoseconds: list[int] = []
    ctypes.pythonapi.PyThreadState_SetAsyncExc = timed_setting(nanoseconds)  # type: ignore[attr-defined]
    victims = [Victim() for _ in range(THREADS)]
    while sum(victim.landed for victim in victims) < interrupts:
        for victim in victims:
            victim.scope.interrupt(Stop)
    cuts = statistics.quantiles(nanoseconds, n=1000)
    print(
        f"Python {sys.version.split()[0]}, {THREADS} threads, a switch interval of {sys.getswitchinterval() * 1e3} ms"
    )
    print(
        "from the look to the setting, in microseconds: "
        f"median {cuts[499] / 1e3:.1f}, 99 % {cuts[989] / 1e3:.1f}, 99.9 % {cuts[998] / 1e3:.1f}, "
        f"worst {max(nanoseconds) / 1e3:.1f}"
    )
    landed = sum(victim.landed for victim in victims)
    print(f"raised in protected code: {sum(victim.in_protected_code for victim in victims)} of {landed}")


if __name__ == "__main__":
    main()
