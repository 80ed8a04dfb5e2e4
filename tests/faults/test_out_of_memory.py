"""The server is out of memory: requests are refused or evicted, messages run, and workers remember."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import redis
from support import result_of, wait_until

from dramatiq_abort import Event
from dramatiq_abort._protocol.request import key_of
from dramatiq_abort.backends import RedisBackend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dramatiq.message import Message
    from fault_support import Bench
    from support import Server

pytestmark = [pytest.mark.main_interpreter, pytest.mark.newest_dependencies]

LONG = 60_000

#: The eviction policies that every server has.
POLICIES = [
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
]


@pytest.mark.parametrize("policy", POLICIES)
def test_there_is_no_memory_at_all(bench: Bench, own_server: Server, policy: str) -> None:
    """(5, 6) Clients' new requests are refused, old ones are evicted, and workers remember those they received.

    Only one policy spares them, because their keys have a time to live.
    """
    known, running = bench.quick.message(), bench.start_endless()
    bench.abort(known)
    wait_until(lambda: bench.backend.poll(f"abort:{known.message_id}".encode()), "the worker to hear of it")
    with own_server.client() as client, bench.traffic():
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", 1)
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            client.set("something", "else")
        wait_until(lambda: bool(client.keys()) is (policy == "noeviction"), "the eviction")
        bench.fails_to_abort(running)
        assert bench.runs_now(known) is None
        client.config_set("maxmemory", 0)
        bench.abort(running)
        assert result_of(running)[0] == "Abort"

    late = RedisBackend.from_url(own_server.url)
    assert late.poll(f"abort:{known.message_id}".encode()) is (policy == "noeviction")
    assert bench.log() == []


def test_other_keys_push_ours_out(bench: Bench, own_server: Server) -> None:
    """(5) Each request that a worker has received takes effect, whatever is evicted."""

    def is_heard(message: Message[Any], looks: Iterator[int]) -> bool:
        # A request that is evicted before the worker reads it is lost, and must be repeated.
        if next(looks) % 200 == 0:
            bench.abort(message)
        return bench.backend.poll(key_of(message.message_id))

    with own_server.client() as client, bench.traffic():
        client.config_set("maxmemory-policy", "allkeys-random")
        client.config_set("maxmemory", "10mb")
        for number in range(20):
            running = bench.start_endless(str(number))
            wait_until(partial(is_heard, running, count()), "the worker to hear of it")
            for part in range(20):
                client.set(f"{number}-{part}", b"x" * 100_000)
            assert result_of(running)[0] == "Abort"
        assert client.info("stats")["evicted_keys"] > 0

    assert bench.log() == []


def test_a_request_whose_value_was_evicted_is_none(redis_client: redis.Redis, namespace: str) -> None:
    """(6) A request whose value was evicted has no effect: it may not have been a plain abort. A new one has."""
    backend = RedisBackend(client=redis_client, namespace=namespace)
    backend.signal([Event(b"plain", b"", LONG), Event(b"cancel", b"value", LONG, -1), Event(b"new", b"value", LONG)])
    redis_client.delete(f"{{{namespace}}}:values")
    backend.signal([Event(b"new", b"new value", LONG, -1)])

    late = RedisBackend(client=redis_client, namespace=namespace)
    assert {late.wait_many([b"plain", b"cancel", b"new"], 1) for _ in range(3)} == {b"plain", b"new", None}
    for reader in (backend, late):
        assert reader.read(b"cancel") is None
        event = reader.read(b"new")
        assert event is not None
        assert event.value == b"new value"


def test_a_value_whose_request_was_evicted_is_none(redis_client: redis.Redis, namespace: str) -> None:
    """(5) A value whose request was evicted does not affect the next request of its key."""
    backend = RedisBackend(client=redis_client, namespace=namespace)
    backend.signal([Event(b"a", b"value", LONG, -1)])
    redis_client.delete(f"{{{namespace}}}:index")
    assert not backend.poll(b"a")
    backend.notify(b"a", LONG)

    event = backend.read(b"a")
    assert event is not None
    assert event.value == b""
