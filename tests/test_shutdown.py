"""A worker that stops leaves nothing behind."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from support import PATIENCE, result_of, wait_for_request, wait_until_requested

from dramatiq_abort import abort, shield

if TYPE_CHECKING:
    from dramatiq.brokers.stub import StubBroker

    from dramatiq_abort import Abortable

pytestmark = pytest.mark.usefixtures("core")


def test_a_worker_stops_while_an_abort_is_pending(abortable: Abortable, start_worker: Any) -> None:
    """A worker that stops does not wait for an abort that cannot be raised."""
    before = set(threading.enumerate())
    started, go_on = threading.Event(), threading.Event()

    @dramatiq.actor
    def task() -> None:
        with shield():
            started.set()
            assert go_on.wait(PATIENCE)

    worker = start_worker()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    worker.stop(timeout=1)
    left = [thread.name for thread in set(threading.enumerate()) - before if "dramatiq-abort" in thread.name]
    go_on.set()

    assert left == []
    assert result_of(message)[0] == "Abort"


def test_no_thread_is_left(broker: StubBroker, start_worker: Any) -> None:
    """The watcher and the scheduler's thread end with the worker."""
    before = set(threading.enumerate())
    started = threading.Event()

    @dramatiq.actor
    def task() -> None:
        started.set()
        wait_for_request()

    for _ in range(3):
        started.clear()
        worker = start_worker()
        message = task.send()
        assert started.wait(PATIENCE)
        abort(message.message_id, abort_timeout=600_000)
        result_of(message)
        worker.stop()
        assert {thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()} == set()
