"""Foreign data in our keys is ignored, and what we write afterwards takes effect."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import PATIENCE, result_of, run_forever

from dramatiq_abort import Abortable, AbortMode, Event, abort
from dramatiq_abort._protocol.request import key_of
from dramatiq_abort.backends import RedisBackend
from dramatiq_abort.backends.redis import backend as redis_backend
from dramatiq_abort.backends.tombstones import Tombstone, Tombstones, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from support import Server

pytestmark = [pytest.mark.main_interpreter, pytest.mark.newest_dependencies]

LONG = 60_000
#: Stands for the key of the running message.
RUNNING = b"the key of the message that runs"

BYTES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([RUNNING, b"abort:", b"abort:\xff\xfe", b"abort:" + bytes(600), bytes(100_000), b'{"mode":']),
)
NUMBERS = st.one_of(
    st.integers(),
    st.floats(allow_nan=False),
    st.sampled_from(
        [b"nan", b"-1", b"0", b"1e400", b"9" * 400, b"9" * 5000, b"", b"\xff", 2**63 - 1, -(2**63), 10**15]
    ),
)
#: Values that are not abort requests, for the running message.
VALUES = st.one_of(
    st.binary(min_size=1, max_size=40).map(lambda part: b"\xff" + part),
    st.integers(1, 100_000).map(lambda depth: b"[" * depth),
    st.fixed_dictionaries(
        {"mode": st.one_of(st.just("cancel"), st.just("abrupt"), st.lists(st.none()), st.integers())},
        optional={"grace": st.one_of(st.floats(), st.integers(), st.text()), "reason": st.text(), "new": st.booleans()},
    ).map(lambda fields: json.dumps(fields).encode()),
)
IDS = st.one_of(
    st.just("*"),
    # Not from the near future: a reader that has read that far looks for a new log only after a minute.
    st.tuples(st.one_of(st.integers(1, 10**12), st.integers(10**15, 2**64 - 1)), st.integers(0, 2**64 - 1)).map(
        "{0[0]}-{0[1]}".format
    ),
    st.sampled_from([f"{2**64 - 1}-{2**64 - 1}", f"{10**15}-1"]),
)
#: Entries of the log: arbitrary ones, and ours with wrong contents.
ENTRIES = st.one_of(
    st.lists(st.tuples(BYTES, BYTES), min_size=1, max_size=5),
    st.tuples(VALUES, NUMBERS, st.lists(st.tuples(BYTES, NUMBERS), max_size=3)).map(
        lambda entry: [(b"v", entry[0]), (b"n", entry[1]), *entry[2]]
    ),
)


def flat(pairs: Any) -> list[Any]:
    return [word for pair in pairs for word in pair]


KEYS = st.sampled_from(["index", "values", "log"])
COMMANDS = st.one_of(
    st.tuples(st.just("SET"), KEYS, BYTES),
    st.tuples(st.just("RPUSH"), KEYS, BYTES),
    st.tuples(st.just("SADD"), KEYS, BYTES),
    st.tuples(st.just("DEL"), KEYS),
    st.tuples(st.just("PERSIST"), KEYS),
    st.tuples(st.just("PEXPIRE"), KEYS, st.sampled_from([1, 2**62])),
    st.tuples(st.just("HSET"), st.sampled_from(["values", "values", "index"]), BYTES, VALUES),
    st.tuples(st.just("ZADD"), st.sampled_from(["index", "index", "log"]), NUMBERS, BYTES),
    st.tuples(st.just("XADD"), st.sampled_from(["log", "log", "log", "values"]), IDS, ENTRIES.map(flat)),
    st.tuples(st.just("XSETID"), st.just("log"), IDS),
).map(lambda command: [*command[:-1], *command[-1]] if isinstance(command[-1], list) else [*command])


@pytest.fixture
def backend(redis_client: redis.Redis, namespace: str) -> RedisBackend:
    return RedisBackend(client=redis_client, namespace=namespace)


@pytest.fixture
def abort_one(worker: dramatiq.Worker) -> Callable[[Callable[[bytes], object]], None]:
    """Return a function that starts an endless message, corrupts its key, and aborts it successfully."""
    started = threading.Event()

    @dramatiq.actor
    def task() -> None:
        run_forever(started)

    def abort_one(do: Callable[[bytes], object]) -> None:
        started.clear()
        message = task.send()
        assert started.wait(PATIENCE)
        do(key_of(message.message_id))
        abort(message.message_id)
        assert result_of(message)[0] == "Abort"

    return abort_one


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "ignored" in record.message]


def test_the_watcher_survives_anything(
    server: Server,
    redis_client: redis.Redis,
    backend: RedisBackend,
    namespace: str,
    abort_one: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every abort takes effect after any foreign data, and the log does not overflow."""
    [watcher] = [thread for thread in threading.enumerate() if thread.name == "dramatiq-abort watcher"]

    @settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(COMMANDS, min_size=1, max_size=6))
    def survives(commands: list[list[Any]]) -> None:
        def run_all(key: bytes) -> None:
            for name, where, *words in commands:
                said = [key if word == RUNNING else word for word in words]
                try:
                    redis_client.execute_command(name, f"{{{namespace}}}:{where}", *said)
                except redis.ResponseError:
                    pass  # the key has the wrong type already, or the id is too small
            time.sleep(0.002)  # if the log was removed, an entry of the same millisecond may have the same id

        abort_one(run_all)
        assert watcher.is_alive()

    survives()

    assert len(complaints(caplog)) <= 20
    assert len(backend._mirror) < 1000


def test_a_flood_is_a_few_lines(
    redis_client: redis.Redis, namespace: str, abort_one: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A flood of foreign entries in Redis's log costs a few log lines."""

    def flood(_: bytes) -> None:
        with redis_client.pipeline(transaction=False) as pipeline:
            for number in range(5_000):
                pipeline.xadd(f"{{{namespace}}}:log", {"number": number})
            pipeline.execute()

    abort_one(flood)

    assert len(complaints(caplog)) == 10
    assert "Further warnings of this kind are suppressed" in caplog.text


def test_what_is_too_long_is_not_kept(redis_client: redis.Redis, namespace: str, backend: RedisBackend) -> None:
    """Oversized entries of the log and of the index are not kept."""
    other = RedisBackend(client=redis_client, namespace=namespace)
    for key, value in ((b"k" * 10_000, b""), (b"value", b"v" * 10_000), (b"good", b"v" * 1_000)):
        other.signal([Event(key, value, LONG)])
        backend.wait_many([], 1)
    late = RedisBackend(client=redis_client, namespace=namespace)
    late.wait_many([], 1)

    assert [*backend._mirror._live] == [*late._mirror._live] == [b"good"]


def test_a_mirror_that_is_full_is_not_all_there_is(
    redis_client: redis.Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message asks for what a full mirror does not hold, and new events are received (5)."""
    monkeypatch.setattr(redis_backend, "_MOST", 10)
    monkeypatch.setattr(redis_backend, "_PATIENCE_OF_MESSAGES", 1000 * PATIENCE)
    keys = [b"%d" % number for number in range(100)]
    RedisBackend(client=redis_client, namespace=namespace).signal([Event(key, ttl=LONG) for key in keys[:50]])
    backend = RedisBackend(client=redis_client, namespace=namespace)
    backend.wait_many([], 1)
    RedisBackend(client=redis_client, namespace=namespace).signal([Event(key, ttl=LONG) for key in keys[50:]])

    assert backend.wait_many(keys[-1:], LONG) == keys[-1]
    assert all(backend.poll(key) and backend.events_for(key) for key in keys)
    assert not backend.poll(b"other")
    assert not backend.events_for(b"other")
    assert len(backend._mirror) == 10


def test_what_comes_again_and_again_takes_no_room() -> None:
    """Repeated events take no additional memory, however late they end."""
    tombstones = Tombstones()
    for number in range(10_000):
        tombstones.add(b"a", Tombstone(b"", now() + LONG + number, stamp=number))

    assert len(tombstones) == 1
    assert len(tombstones._by_expiry) < 2_000


NASTY = [
    "{dramatiq-abort}:index",
    "}:log",
    "{",
    "a:b",
    "a\r\nDEL x\r\n",
    "\0",
    "*",
    "../x",
    "'; return 1 --",
    "é\u202e",
]


@pytest.mark.parametrize("mode", list(AbortMode))
def test_a_message_id_reaches_no_other_key(server: Server, mode: AbortMode) -> None:
    """No message id reaches another key or another namespace."""
    with server.client(db=9) as client:
        client.flushdb()
        namespaces = ["a", "a:index", "b"]
        first, *others = [RedisBackend(client=client, namespace=namespace) for namespace in namespaces]
        nasty = [*NASTY, *(f"{{{namespace}}}:{name}" for namespace in namespaces for name in ("index", "log"))]

        @settings(max_examples=50, deadline=None, database=None)
        @given(st.one_of(st.sampled_from(nasty), st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)))
        def stays(message_id: str) -> None:
            key = key_of(message_id)
            abort(message_id, Abortable(backend=first), mode=mode, abort_timeout=1)
            assert first.poll(key)
            assert not any(other.poll(key) for other in others)
            assert set(client.keys()) == {b"{a}:index", b"{a}:values", b"{a}:log"}
            assert client.zrange("{a}:index", 0, -1) == [key]
            assert first.revoke(key)

        stays()
