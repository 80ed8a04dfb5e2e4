"""Guarantee 1, exact window: ``Abort`` is raised inside the actor's function or not at all."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from support import PATIENCE, needs_interrupts, needs_threads, result_of, run_forever, wait_until

from dramatiq_abort import Abort, abort

if TYPE_CHECKING:
    from dramatiq.brokers.stub import StubBroker
    from support import Hooks

pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.sanitized]


def test_a_running_message_is_aborted(worker: dramatiq.Worker, hooks: Hooks, caplog: pytest.LogCaptureFixture) -> None:
    """(1, 4) Abort is raised in the function; the message fails once, without a retry or a traceback in the log."""
    caplog.set_level(logging.INFO)
    started = threading.Event()
    seen: list[Abort] = []

    @dramatiq.actor(min_backoff=1, max_backoff=1)
    def task() -> None:
        try:
            run_forever(started)
        except Abort as aborted:
            seen.append(aborted)
            assert aborted.message_id == message.message_id
            raise

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")
    assert len(seen) == 1
    assert seen[0].message_id == message.message_id
    assert hooks.of(message) == {("before", 1), ("after", 1), ("nack", 1)}
    lines = [record for record in caplog.records if record.name.startswith("dramatiq.worker.WorkerThread")]
    assert [(line.levelname, line.exc_info) for line in lines if "Failed to process" in line.message] == [
        ("INFO", None)
    ]
    worker.join()


@pytest.mark.slow
@pytest.mark.untraced
@needs_threads
@needs_interrupts
def test_a_storm_of_aborts(broker: StubBroker, start_worker: Any, hooks: Hooks, tiny_switch_interval: None) -> None:
    """(1, 2, 4) Short messages that are aborted around their end are counted once each, and no thread dies."""
    calls: Counter[int] = Counter()
    begun: deque[int] = deque()

    @dramatiq.actor(min_backoff=1, max_backoff=1)
    def task(number: int) -> int:
        calls[number] += 1
        begun.append(number)
        for step in range(number % 97 * 1_000):
            abs(step)
        return number

    messages = [task.send(number) for number in range(400)]
    worker: dramatiq.Worker = start_worker(worker_threads=8)

    def all_done() -> bool:
        while begun:
            abort(messages[begun.pop()].message_id)  # the most recently started message that is left
        return len([name for name, _ in dict(hooks.calls) if name in {"ack", "nack"}]) == len(messages)

    wait_until(all_done, "the end of all messages")

    assert all(thread.is_alive() for thread in worker.workers)
    assert set(calls.values()) == set(hooks.calls.values()) == {1}
    aborted = {message_id for message_id, exception in hooks.exceptions.items() if exception is not None}
    assert {type(hooks.exceptions[message_id]) for message_id in aborted} == {Abort}
    assert {message_id for name, message_id in hooks.calls if name == "nack"} == aborted
    assert 0 < len(aborted) < len(messages)
    for message in messages:
        assert (result_of(message) == message.args[0]) == (message.message_id not in aborted)
