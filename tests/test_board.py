"""Where workers leave word: what is particular to the one on Redis, and what happens when one does not answer."""

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
def test_what_others_have_put_there_is_in_nobodys_way(redis_client: redis.Redis, namespace: str, kind: str) -> None:
    """Whatever it is."""
    board = RedisBackend(client=redis_client, namespace=namespace).reply_store
    for name in ("replies", "workers", "reply:a", "reply:b"):
        key = f"{{{namespace}}}:{name}"
        if kind == "string":
            redis_client.set(key, "x" * (MAX_REPLY + 1))
        elif kind == "list":
            redis_client.rpush(key, "x")
        else:
            redis_client.xadd(key, {"n": "x"}, id=f"{2**64 - 1}-{2**64 - 1}")

    assert board.wait([b"a", b"b"], 0) == {}
    board.put([Reply(b"a", b"text", LONG)])
    board.register(b"worker", LONG)
    assert board.wait([b"a", b"b"], 0) == {b"a": b"text"}
    assert board.workers() == [b"worker"]


def test_nothing_is_there_for_ever(redis_client: redis.Redis, namespace: str) -> None:
    """Every key has a time to live, those of the events for all workers, too."""
    backend = RedisBackend(client=redis_client, namespace=namespace)
    backend.signal([Event(b"abort:a", b"value", LONG), Event(BROADCAST_PREFIX + b"b", b"value", LONG)])
    backend.reply_store.put([Reply(b"a", b"text", LONG)])
    backend.reply_store.register(b"worker", LONG)
    keys = redis_client.keys(f"*{namespace}*")

    assert len(keys) == 8
    assert [key for key in keys if redis_client.pttl(key) <= 0] == []


class Failing(ReplyStore):
    """One that does not answer until it is mended."""

    def __init__(self) -> None:
        self.notes: list[bytes] = []
        self.workers: set[bytes] = set()
        self.calls = 0
        self.is_mended = threading.Event()

    def put(self, notes: Iterable[Reply]) -> None:
        self._fail()
        self.notes += [note.name for note in notes]

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
        if not self.is_mended.is_set():
            raise ConnectionError("gone")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reporter, "_BACKOFF", 0.001)


@pytest.mark.usefixtures("quick")
def test_what_is_to_be_told_waits_for_the_board(caplog: pytest.LogCaptureFixture) -> None:
    """In its order; two lines in the log say when it went and came."""
    caplog.set_level(logging.INFO)
    board = Failing()
    reporter = Reporter(board, b"worker", logging.getLogger("test"))
    reporter.renew()
    for number in range(250):
        reporter.put(Reply(b"%d" % number, b"", LONG))
    wait_until(lambda: board.calls >= 3)
    board.is_mended.set()
    wait_until(lambda: len(board.notes) == 250)
    assert board.workers == {b"worker"}
    reporter.stop()

    assert board.notes == [b"%d" % number for number in range(250)]
    assert board.workers == set()
    assert [record.message for record in caplog.records] == [
        "The reply store does not answer. Outcomes of aborts are queued until it does. ConnectionError: gone",
        "The reply store answers again.",
    ]
    wait_until(lambda: not _threads())


@pytest.mark.usefixtures("quick")
def test_not_any_number_of_notes_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are lost."""
    monkeypatch.setattr(_reporter, "_MAX_QUEUED", 10)
    board = Failing()
    reporter = Reporter(board, b"worker", logging.getLogger("test"))
    for number in range(100):
        reporter.put(Reply(b"%d" % number, b"", LONG))
    board.is_mended.set()
    reporter.stop()

    assert len(board.notes) <= 20  # those that were on their way
    assert board.notes[-1] == b"99"


@pytest.mark.usefixtures("quick")
def test_a_worker_stops_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody listens."""
    monkeypatch.setattr(_reporter, "_STOP_TIMEOUT", 0.01)
    board = Failing()
    reporter = Reporter(board, b"worker", logging.getLogger("test"))
    reporter.put(Reply(b"a", b"", LONG))
    reporter.stop()
    reporter.put(Reply(b"b", b"", LONG))
    reporter.renew()

    wait_until(lambda: not _threads())
    assert board.notes == []


def test_a_worker_that_stops_does_not_ask_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has two seconds for it."""
    monkeypatch.setattr(_reporter, "_STOP_TIMEOUT", 2.5)
    monkeypatch.setattr(_reporter, "_BACKOFF_AT_STOP", 1.0)
    board = Failing()
    reporter = Reporter(board, b"worker", logging.getLogger("test"))
    reporter.stop()

    assert 1 <= board.calls <= 4


def _threads() -> list[Any]:
    return [thread for thread in threading.enumerate() if thread.name == "dramatiq-abort reporter"]
