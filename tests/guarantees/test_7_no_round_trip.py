"""Guarantee 7, no round trip per message: a connected worker starts messages without asking the server."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from support import PATIENCE, result_of, wait_until

from dramatiq_abort import abort

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from dramatiq_abort import Abortable

pytestmark = pytest.mark.sanitized


@pytest.mark.parametrize("make_backend", ["redis"], indirect=True)
def test_messages_cost_no_command(
    abortable: Abortable, worker: dramatiq.Worker, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(7) By the server's statistics, a worker that runs messages only waits for the next request."""

    @dramatiq.actor
    def task(number: int) -> int:
        return number

    def commands() -> Counter[str]:
        statistics: dict[str, Any] = redis_client.info("commandstats")  # type: ignore[assignment]
        return Counter({name: command["calls"] for name, command in statistics.items()})

    abort(task.message(0).message_id)  # the watcher receives this, so it is connected
    assert result_of(task.send(0)) == 0
    wait_until(abortable.backend.reply_store.workers, "the worker's entry")
    monkeypatch.setattr("dramatiq_abort.backends.redis.backend._FRESH", 1000 * PATIENCE)  # even on a busy machine
    wait_until(lambda: abortable.backend._fresh_until > time.monotonic() + PATIENCE / 2, "the watcher's next look")
    before = commands()
    assert [result_of(message) for message in [task.send(number) for number in range(100)]] == list(range(100))

    assert set(commands() - before) <= {"cmdstat_xread", "cmdstat_info"}


@pytest.mark.slow
@pytest.mark.parametrize("make_backend", ["redis"], indirect=True)
def test_waiting_costs_two_commands_a_second(
    abortable: Abortable, start_worker: Callable[..., dramatiq.Worker], redis_client: redis.Redis
) -> None:
    """(7) An idle worker sends two commands per second, of a size independent of the number of running messages."""
    started, stop = threading.Semaphore(0), threading.Event()

    @dramatiq.actor
    def task() -> None:
        started.release()
        assert stop.wait(PATIENCE)

    def run(tasks: int) -> None:
        for _ in range(tasks):
            task.send()
        for _ in range(tasks):
            assert started.acquire(timeout=PATIENCE)

    def traffic() -> tuple[float, float]:
        before: dict[str, Any] = redis_client.info("stats")  # type: ignore[assignment]
        began = time.monotonic()
        time.sleep(3)
        after: dict[str, Any] = redis_client.info("stats")  # type: ignore[assignment]
        commands = after["total_commands_processed"] - before["total_commands_processed"] - 1  # for this INFO command
        size = after["total_net_input_bytes"] - before["total_net_input_bytes"]
        # The interval may include one more command.
        return (commands - 1) / (time.monotonic() - began), size / commands

    start_worker(worker_threads=64)
    run(1)
    abort(task.message().message_id)  # the watcher receives this, so it is connected and its mirror is not empty
    wait_until(abortable.backend.reply_store.workers, "the worker's entry")
    commands, size = traffic()
    run(63)
    commands_of_many, size_of_many = traffic()
    stop.set()

    assert max(commands, commands_of_many) <= 2
    assert size_of_many <= size * 1.5
