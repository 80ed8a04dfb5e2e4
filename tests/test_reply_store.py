"""Reply stores: properties of the one on Redis, and what happens if a store fails."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support import PATIENCE, wait_until

from dramatiq_abort import Event, Reply, ReplyStore
from dramatiq_abort._protocol.event import BROADCAST_PREFIX
from dramatiq_abort._protocol.reply import MAX_REPLY
from dramatiq_abort._worker import reporter as _reporter
from dramatiq_abort._worker.reporter import Reporter
from dramatiq_abort.backends import RedisBackend

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import redis

LONG = PATIENCE * 1000


@pytest.mark.parametrize("kind", ["string", "list", "last id"])
def test_data_of_another_type_is_replaced(redis_client: redis.Redis, namespace: str, kind: str) -> None:
    """Also a stream that already has the greatest possible id."""
    store = RedisBackend(client=redis_client, namespace=namespace).reply_store
    for name in ("replies", "workers", "reply:a", "reply:b"):
        key = f"{{{namespace}}}:{name}"
        if kind == "string":
            redis_client.set(key, "x" * (MAX_REPLY + 1))
        elif kind == "list":
            redis_client.rpush(key, "x")
        else:
            redis_client.xadd(key, {"n": "x"}, id=f"{2**64 - 1}-{2**64 - 1}")

    assert store.wait([b"a", b"b"], 0) == {}
    store.put([Reply(b"a", b"text", LONG)])
    store.register(b"worker", LONG)
    assert store.wait([b"a", b"b"], 0) == {b"a": b"text"}
    assert store.workers() == [b"worker"]


def test_everything_expires(redis_client: redis.Redis, namespace: str) -> None:
    """Every key has a time to live, including those of broadcasts."""
    backend = RedisBackend(client=redis_client, namespace=namespace)
    backend.signal([Event(b"abort:a", b"value", LONG), Event(BROADCAST_PREFIX + b"b", b"value", LONG)])
    backend.reply_store.put([Reply(b"a", b"text", LONG)])
    backend.reply_store.register(b"worker", LONG)
    keys = redis_client.keys(f"*{namespace}*")

    assert len(keys) == 8
    assert [key for key in keys if redis_client.pttl(key) <= 0] == []


class Failing(ReplyStore):
    """A reply store that fails until it is repaired."""

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.workers: set[bytes] = set()
        self.calls = 0
        self.is_repaired = threading.Event()

    def put(self, replies: Iterable[Reply]) -> None:
        self._fail()
        self.names += [reply.name for reply in replies]

    def wait(self, names: Collection[bytes], timeout: int) -> dict[bytes, bytes]:
        raise NotImplementedError

    def register(self, worker: bytes, ttl: int) -> None:
        self._fail()
        self.workers.add(worker)

    def unregister(self, worker: bytes) -> None:
        self._fail()
        self.workers.discard(worker)

    def workers(self) -> list[bytes]:
        raise NotImplementedError

    def _fail(self) -> None:
        self.calls += 1
        if not self.is_repaired.is_set():
            raise ConnectionError("gone")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reporter, "_BACKOFF", 0.001)


@pytest.mark.usefixtures("quick")
def test_replies_wait_for_the_reply_store(caplog: pytest.LogCaptureFixture) -> None:
    """In their order. Two lines in the log report the failure and its end."""
    caplog.set_level(logging.INFO)
    store = Failing()
    reporter = Reporter(store, b"worker", logging.getLogger("test"))
    reporter.renew()
    for number in range(250):
        reporter.put(Reply(b"%d" % number, b"", LONG))
    wait_until(lambda: store.calls >= 3)
    store.is_repaired.set()
    wait_until(lambda: len(store.names) == 250)
    assert store.workers == {b"worker"}
    reporter.stop()

    assert store.names == [b"%d" % number for number in range(250)]
    assert store.workers == set()
    assert [record.message for record in caplog.records] == [
        "The reply store does not answer. Outcomes of aborts are queued until it does. ConnectionError: gone",
        "The reply store answers again.",
    ]
    wait_until(lambda: not _threads())


@pytest.mark.usefixtures("quick")
def test_the_number_of_waiting_replies_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are lost."""
    monkeypatch.setattr(_reporter, "_MAX_QUEUED", 10)
    store = Failing()
    reporter = Reporter(store, b"worker", logging.getLogger("test"))
    for number in range(100):
        reporter.put(Reply(b"%d" % number, b"", LONG))
    store.is_repaired.set()
    reporter.stop()

    assert len(store.names) <= 20  # including those being written
    assert store.names[-1] == b"99"


@pytest.mark.usefixtures("quick")
def test_a_worker_stops_although_the_reply_store_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopping worker does not wait for a reply store that fails."""
    monkeypatch.setattr(_reporter, "_STOP_TIMEOUT", 0.01)
    store = Failing()
    reporter = Reporter(store, b"worker", logging.getLogger("test"))
    reporter.put(Reply(b"a", b"", LONG))
    reporter.stop()
    reporter.put(Reply(b"b", b"", LONG))
    reporter.renew()

    wait_until(lambda: not _threads())
    assert store.names == []


def test_a_stopping_worker_pauses_between_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has two seconds for it."""
    monkeypatch.setattr(_reporter, "_STOP_TIMEOUT", 2.5)
    monkeypatch.setattr(_reporter, "_BACKOFF_AT_STOP", 1.0)
    store = Failing()
    reporter = Reporter(store, b"worker", logging.getLogger("test"))
    reporter.stop()

    assert 1 <= store.calls <= 4


def _threads() -> list[Any]:
    return [thread for thread in threading.enumerate() if thread.name == "dramatiq-abort reporter"]
