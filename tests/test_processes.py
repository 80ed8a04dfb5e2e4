"""Real worker processes, a real server, and aborts from another process."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.results import ResultFailure
from support import PATIENCE, wait_until

from dramatiq_abort import AbortMode, abort, abort_requested, interrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType


@pytest.fixture
def app(redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The actors, in this process and with this test's own broker."""
    monkeypatch.setenv("TEST_REDIS_URL", redis_url)
    monkeypatch.setenv("TEST_NAMESPACE", namespace)
    sys.modules.pop("worker_app", None)
    app = importlib.import_module("worker_app")
    yield app
    app.broker.close()
    app.broker.client.close()
    dramatiq.set_broker(None)  # type: ignore[arg-type]


@pytest.fixture
def start_processes(app: ModuleType, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts ``python -m dramatiq`` with two processes, and stops it in the end."""
    started = []

    def start() -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "dramatiq", "worker_app", "--processes", "2", "--threads", "4"]
        words += ["--path", str(Path(__file__).parent), "--log-file", str(tmp_path / f"worker-{len(started)}.log")]
        # Not from the source tree, which has no compiled core and would be in the way of what is installed.
        process = subprocess.Popen(words, cwd=tmp_path, start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        try:
            assert process.wait(PATIENCE) == 0, (tmp_path / "worker-0.log").read_text()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


def told(app: ModuleType, key: str) -> str:
    """Wait for the next thing that an actor tells."""
    answers: list[bytes] = []
    wait_until(lambda: answers.extend(app.broker.client.lpop(key, 1) or []) or answers, f"a word about {key}")
    return answers[0].decode()


def result_of(message: Any) -> Any:
    try:
        return message.get_result(block=True, timeout=PATIENCE * 1000)
    except ResultFailure as failure:
        return failure.orig_exc_type


def test_messages_are_aborted_in_other_processes(app: ModuleType, start_processes: Any) -> None:
    """(1, 4) On whichever of the processes they run, with the core that this one has."""
    start_processes()
    messages = [app.run.send(f"{app.broker.namespace}-{number}") for number in range(4)]
    for message in messages:
        assert told(app, message.args[0]) == interrupt.IMPLEMENTATION
    for message in messages:
        abort(message.message_id)

    assert [result_of(message) for message in messages] == ["Abort"] * 4
    assert all(float(told(app, message.args[0])) > 0 for message in messages)


def test_a_worker_that_starts_after_the_abort_skips(app: ModuleType, start_processes: Any) -> None:
    """(5) Requests wait for workers, not the other way round."""
    aborted, cancelled, delayed = (app.run.message(app.broker.namespace) for _ in range(3))
    app.broker.enqueue(aborted)
    app.broker.enqueue(cancelled)
    app.broker.enqueue(delayed, delay=100)
    abort(aborted.message_id)
    abort(cancelled.message_id, mode=AbortMode.CANCEL)
    abort(delayed.message_id)
    start_processes()

    assert [result_of(message) for message in (aborted, cancelled, delayed)] == [None] * 3
    assert app.broker.client.llen(app.broker.namespace) == 0


def test_a_task_in_another_process_uses_its_grace_period(app: ModuleType, start_processes: Any) -> None:
    """And everybody can see what is left of it."""
    start_processes()
    key = app.broker.namespace
    message = app.finish_in_time.send(key)
    assert told(app, key) == "started"
    assert abort_requested(message.message_id) is None
    abort(message.message_id, abort_timeout=60_000)

    left = abort_requested(message.message_id)
    assert left is not None
    assert 0 < left <= 60_000
    assert result_of(message) == "in time: True"


def test_a_critical_section_in_another_process_completes(app: ModuleType, start_processes: Any) -> None:
    """The abort comes up behind it."""
    start_processes()
    key = app.broker.namespace
    message = app.protect.send(key)
    assert told(app, key) == "started"
    abort(message.message_id)

    assert result_of(message) == "Abort"
    assert told(app, key) == "completed"
    assert app.broker.client.llen(key) == 0
