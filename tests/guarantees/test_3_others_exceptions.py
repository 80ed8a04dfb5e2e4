"""Guarantee 3, other exceptions: an abort neither replaces nor removes another exception in the thread's slot."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import dramatiq
import pytest
from dramatiq.middleware import TimeLimitExceeded
from support import (
    PATIENCE,
    needs_interrupts,
    needs_threads,
    result_of,
    run_forever,
    set_async_exception,
    wait_until_requested,
)

from dramatiq_abort import Abort, Abortable, abort

if TYPE_CHECKING:
    from types import ModuleType


pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.sanitized]


@needs_threads
@needs_interrupts
def test_somebody_elses_exception_comes_first(worker: dramatiq.Worker, core: ModuleType, abortable: Abortable) -> None:
    """(3) An abort does not overwrite a pending exception, and is retried while the message runs."""
    if core.__name__.endswith("_py"):
        pytest.skip("the pure-Python core cannot read the slot")
    lock = threading.Lock()
    lock.acquire()
    threads: list[threading.Thread] = []
    waiting = threading.Event()
    seen: list[str] = []

    @dramatiq.actor
    def task() -> None:
        threads.append(threading.current_thread())
        try:
            waiting.set()
            lock.acquire()
        except TimeLimitExceeded:
            seen.append("TimeLimitExceeded")
        try:
            run_forever()
        except Abort:
            seen.append("Abort")
            raise

    message = task.send()
    assert waiting.wait(PATIENCE)
    set_async_exception(threads[0], TimeLimitExceeded)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    lock.release()

    assert result_of(message)[0] == "Abort"
    assert seen[0] == "TimeLimitExceeded"
