"""Guarantee 8, any order: wherever the middleware stands, and whenever it was added."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.middleware import Retries
from support import PATIENCE, result_of, run_forever, stub_broker

from dramatiq_abort import Abort, Abortable, EventBackend, abort

if TYPE_CHECKING:
    from dramatiq.results import Results


pytestmark = pytest.mark.usefixtures("core")


@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize("declared", ["before", "after"])
def test_it_holds_in_any_order(backend: EventBackend, results: Results, where: str, declared: str) -> None:
    """(8) Wherever the middleware stands, and whether actors were declared before or after it was added."""
    broker = stub_broker(Retries(min_backoff=1, max_backoff=1), results)
    dramatiq.set_broker(broker)
    started = threading.Event()
    calls: list[str] = []

    def declare() -> Any:
        @dramatiq.actor
        def task() -> None:
            calls.append("task")
            try:
                run_forever(started)
            except Abort:
                raise ValueError from None

        return task

    task = declare() if declared == "before" else None
    if where == "first":
        broker.add_middleware(Abortable(backend=backend), before=Retries)
    else:
        broker.add_middleware(Abortable(backend=backend))
    task = task or declare()
    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=2)
    worker.start()
    running, waiting = task.send(), task.message()
    abort(waiting.message_id)
    broker.enqueue(waiting)
    assert started.wait(PATIENCE)
    abort(running.message_id)
    outcomes = result_of(running)[0], result_of(waiting)
    worker.join()
    worker.stop()

    assert outcomes == ("Abort", None)
    assert calls == ["task"]
