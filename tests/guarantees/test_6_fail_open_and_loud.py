"""Guarantee 6, fail open, fail loud: a failing event backend harms no message, and is logged."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.middleware import Retries
from support import PATIENCE, result_of, run_forever, stub_broker, wait_until, working

from dramatiq_abort import Abortable, BackendError, Event, EventBackend, abort
from dramatiq_abort._protocol.request import key_of
from dramatiq_abort.backends import StubBackend

if TYPE_CHECKING:
    from dramatiq.results import Results


pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.sanitized]


class Breaking(StubBackend):
    """A backend that can become unreachable."""

    def __init__(self) -> None:
        super().__init__()
        self.reachable = True
        self.failures = 0

    def check(self) -> None:
        if not self.reachable:
            self.failures += 1
            raise ConnectionError("out of reach")

    def signal(self, events: Any) -> None:
        self.check()
        super().signal(events)

    def poll(self, key: bytes) -> bool:
        self.check()
        return super().poll(key)

    def receive(self, keys: Any, timeout: int) -> tuple[bytes, Event | None] | None:
        self.check()
        return super().receive(keys, 10)


def test_a_backend_that_is_down_harms_no_message(results: Results, caplog: pytest.LogCaptureFixture) -> None:
    """(6, 5) Messages run, one line logs the failure and one the recovery, and aborts take effect again."""
    caplog.set_level(logging.INFO, "dramatiq_abort")
    backend = Breaking()
    broker = stub_broker(Retries(), results, Abortable(backend=backend))
    dramatiq.set_broker(broker)
    started = threading.Event()

    @dramatiq.actor
    def quick() -> str:
        return "ran"

    @dramatiq.actor
    def slow() -> None:
        run_forever(started)

    with working(broker):
        running = slow.send()
        assert started.wait(PATIENCE)
        backend.reachable = False
        wait_until(lambda: backend.failures > 3)
        outcomes = [result_of(quick.send()) for _ in range(20)]
        with pytest.raises(BackendError, match="was not aborted") as caught:
            abort(running.message_id)
        backend.reachable = True
        abort(running.message_id)
        outcome, _ = result_of(running)

    assert outcomes == ["ran"] * 20
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert outcome == "Abort"
    about_backend = [record for record in caplog.records if "event backend" in record.message]
    assert [record.levelname for record in about_backend] == ["ERROR", "INFO"]


def test_what_a_backend_says_is_not_trusted(
    worker: dramatiq.Worker, backend: EventBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """(6) Running and starting messages ignore a value that is not a request, with a log line."""
    started, go_on = threading.Event(), threading.Event()

    @dramatiq.actor
    def task() -> str:
        started.set()
        assert go_on.wait(PATIENCE)
        return "ran"

    message = task.send()
    assert started.wait(PATIENCE)
    key = key_of(message.message_id)
    backend.signal([Event(key, b"\x80\x04]", 60_000)])
    wait_until(lambda: "Ignoring the event with key" in caplog.text)
    go_on.set()
    assert result_of(message) == "ran"
    again = task.send_with_options()
    waiting = task.message()
    backend.signal([Event(key_of(waiting.message_id), b"{}}", 60_000)])
    worker.broker.enqueue(waiting)

    assert result_of(again) == "ran"
    assert result_of(waiting) == "ran"


@pytest.mark.parametrize("message_id", ["x" * 1_000, ""])
def test_a_message_that_nobody_can_name_runs(
    worker: dramatiq.Worker, message_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    """(6) A message whose id ``abort()`` does not accept runs, without a log line."""

    @dramatiq.actor
    def task() -> str:
        return "ran"

    message = task.message().copy(message_id=message_id)
    worker.broker.enqueue(message)

    assert result_of(message) == "ran"
    assert [record for record in caplog.records if "Abortable" in record.getMessage()] == []
