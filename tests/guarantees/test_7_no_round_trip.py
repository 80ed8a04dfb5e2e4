"""Guarantee 7, no round trip per message: a worker that is connected asks nobody before it starts a message."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from support import result_of

from dramatiq_abort import abort

if TYPE_CHECKING:
    import redis

    from dramatiq_abort import Abortable


@pytest.mark.parametrize("make_backend", ["redis"], indirect=True)
def test_messages_cost_no_command(abortable: Abortable, worker: dramatiq.Worker, redis_client: redis.Redis) -> None:
    """(7) The server counts: whatever the worker runs, it is asked for nothing but the next request."""

    @dramatiq.actor
    def task(number: int) -> int:
        return number

    def commands() -> Counter[str]:
        statistics: dict[str, Any] = redis_client.info("commandstats")  # type: ignore[assignment]
        return Counter({name: command["calls"] for name, command in statistics.items()})

    abort(task.message(0).message_id)  # which the watcher hears of, so that it is connected
    assert result_of(task.send(0)) == 0
    before = commands()
    assert [result_of(message) for message in [task.send(number) for number in range(100)]] == list(range(100))

    assert set(commands() - before) <= {"cmdstat_xread", "cmdstat_info"}
