"""Real worker processes, a real server, and aborts from another process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support import result_type, told

from dramatiq_abort import AbortMode, abort, abort_requested, interrupt

if TYPE_CHECKING:
    from types import ModuleType

pytestmark = [pytest.mark.slow, pytest.mark.pure_core]


def test_messages_are_aborted_in_other_processes(app: ModuleType, start_processes: Any) -> None:
    """(1, 4) Messages are aborted in every worker process, with the core of this one."""
    start_processes()
    messages = [app.run.send(f"{app.broker.namespace}-{number}") for number in range(4)]
    for message in messages:
        assert told(app, message.args[0]) == interrupt.IMPLEMENTATION
    for message in messages:
        abort(message.message_id)

    assert [result_type(message) for message in messages] == ["Abort"] * 4
    assert all(float(told(app, message.args[0])) > 0 for message in messages)


def test_a_worker_that_starts_after_the_abort_skips(app: ModuleType, start_processes: Any) -> None:
    """(5) Requests wait for workers that start later."""
    aborted, cancelled, delayed = (app.run.message(app.broker.namespace) for _ in range(3))
    app.broker.enqueue(aborted)
    app.broker.enqueue(cancelled)
    app.broker.enqueue(delayed, delay=100)
    abort(aborted.message_id)
    abort(cancelled.message_id, mode=AbortMode.CANCEL)
    abort(delayed.message_id)
    start_processes()

    assert [result_type(message) for message in (aborted, cancelled, delayed)] == [None] * 3
    assert app.broker.client.llen(app.broker.namespace) == 0


def test_a_task_in_another_process_uses_its_grace_period(app: ModuleType, start_processes: Any) -> None:
    """The remaining grace period is visible in all processes."""
    start_processes()
    key = app.broker.namespace
    message = app.finish_in_time.send(key)
    assert told(app, key) == "started"
    assert abort_requested(message.message_id) is None
    abort(message.message_id, abort_timeout=60_000)

    left = abort_requested(message.message_id)
    assert left is not None
    assert 0 < left <= 60_000
    assert result_type(message) == "in time: True"


def test_a_critical_section_in_another_process_completes(app: ModuleType, start_processes: Any) -> None:
    """The abort is raised after the critical section."""
    start_processes()
    key = app.broker.namespace
    message = app.protect.send(key)
    assert told(app, key) == "started"
    abort(message.message_id)

    assert result_type(message) == "Abort"
    assert told(app, key) == "completed"
    assert app.broker.client.llen(key) == 0
