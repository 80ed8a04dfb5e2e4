"""Measure how long an abort takes in each shape of loop: ``python benchmarks/loops.py [ABORTS]``.

The shapes are those of ``tests/loop_shapes.py``: loops that never give up the GIL at a safe point. Each is interrupted
in the same way as in a worker, with both cores. The exit status is 1 if a 95th percentile exceeds LIMIT.
"""

from __future__ import annotations

import importlib
import platform
import random
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dramatiq_abort._worker.scheduler import _ASK_AGAIN

if TYPE_CHECKING:
    from collections.abc import Callable

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from loop_shapes import ENDLESS_CALLS, ENDLESS_TRIES, LOOPS  # type: ignore[import-not-found]

#: The largest accepted 95th percentile, in milliseconds.
LIMIT = 50


class Stop(BaseException):
    """The exception to raise."""


def interrupt(core: Any, function: Callable[[], None]) -> float:
    """Run a loop in a scope, interrupt it at a random moment, and return the milliseconds until it ended."""
    scope, started = core.Scope(), threading.Event()

    def run() -> None:
        started.set()
        function()

    def in_scope() -> None:
        try:
            scope.run(run)
        except Stop:
            pass

    thread = threading.Thread(target=in_scope, daemon=True)
    thread.start()
    started.wait()
    time.sleep(random.uniform(0.003, 0.02))
    before = time.perf_counter()
    while thread.is_alive():
        shortest, longest = _ASK_AGAIN[scope.interrupt(Stop)]
        late = time.perf_counter() - before
        thread.join(min(max(shortest, late / 10), longest))
    return (time.perf_counter() - before) * 1000


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    is_slow = False
    print(f"{platform.python_implementation()} {platform.python_version()}, {number} aborts each, ms: median / 95 %")
    for name in ("_interrupt", "_core.interrupt_py"):
        core = importlib.import_module(f"dramatiq_abort.{name}")
        for function in LOOPS:
            endless = ENDLESS_CALLS | (ENDLESS_TRIES if sys.version_info < (3, 11) else set())
            if name == "_core.interrupt_py" and sys.version_info < (3, 12) and function in endless:
                print(f"{name:14} {function.__name__:32} never")
                continue
            times = [interrupt(core, function) for _ in range(number)]
            at_95 = statistics.quantiles(times, n=20, method="inclusive")[-1]
            is_slow = is_slow or at_95 > LIMIT
            print(f"{name:14} {function.__name__:32} {statistics.median(times):6.1f} / {at_95:6.1f}", flush=True)
    sys.exit(is_slow)


main()
