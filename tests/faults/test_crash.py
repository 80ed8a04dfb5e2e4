"""A worker dies and its messages are redelivered, or a message is delayed for long."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from dramatiq.common import current_millis
from support import result_of, result_type, told, wait_until

from dramatiq_abort import AbortMode, abort
from dramatiq_abort.backends import tombstones

if TYPE_CHECKING:
    from types import ModuleType

    from fault_support import Bench

pytestmark = [pytest.mark.main_interpreter, pytest.mark.newest_dependencies]

HOUR = 3_600_000


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redeliver a dead worker's messages after 2 seconds."""
    monkeypatch.setenv("TEST_HEARTBEAT_TIMEOUT", "2000")


@pytest.mark.parametrize("mode", AbortMode)
def test_a_killed_worker_is_not_followed_by_a_second_run(
    app: ModuleType, start_processes: Any, mode: AbortMode
) -> None:
    """(4, 5) If a worker is killed before it acts on an abort, another one takes over and skips the message."""
    first = start_processes()
    key = app.broker.namespace
    message, canary = app.run.send(key), app.run.send(f"{key}-canary")
    told(app, key)
    told(app, canary.args[0])
    os.killpg(first.pid, signal.SIGSTOP)
    abort(message.message_id, mode=mode)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    start_processes()

    assert result_type(message) is None
    told(app, canary.args[0])  # this one ran again, so both were redelivered
    abort(canary.message_id)
    assert result_type(canary) == "Abort"
    assert app.broker.client.llen(key) == 0


@pytest.mark.parametrize("abort_ttl", [2 * HOUR, None], ids=["two hours", "the default"])
def test_a_message_is_an_hour_away(bench: Bench, monkeypatch: pytest.MonkeyPatch, abort_ttl: int | None) -> None:
    """(5) A message delayed by an hour is skipped if its request's time to live is longer, and runs otherwise."""
    message = bench.quick.message()
    bench.broker.enqueue(message, delay=HOUR)
    abort(message.message_id, bench.requester, abort_ttl)
    wait_until(lambda: bench.backend.poll(f"abort:{message.message_id}".encode()), "the worker to hear of it")
    now = tombstones.now
    monkeypatch.setattr("dramatiq_abort.backends.tombstones.now", lambda: now() + HOUR)
    monkeypatch.setattr("dramatiq.worker.current_millis", lambda: current_millis() + HOUR)

    assert result_of(message) == (None if abort_ttl else "ran")
