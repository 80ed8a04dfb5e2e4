"""Custom event backends: with the three required methods, and the one of docs/backends.md."""

from __future__ import annotations

import runpy
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from consuming_backend import Consuming, Store
from support import PATIENCE, result_of, result_type, run_forever, told

from dramatiq_abort import Event, EventBackend, UnsupportedByBackend, abort, restore
from dramatiq_abort.backends import StubBackend
from dramatiq_abort.contract import BackendContract

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from dramatiq.brokers.stub import StubBroker

SQLITE_BACKEND = Path(__file__).parent.parent / "examples" / "sqlite_backend.py"


class ThreeMethods(EventBackend):
    """The minimal backend."""

    def __init__(self) -> None:
        self.inner = StubBackend()

    def notify(self, key: bytes, ttl: int) -> None:
        self.inner.notify(key, ttl)

    def poll(self, key: bytes) -> bool:
        return self.inner.poll(key)

    def wait_many(self, keys: object, timeout: int) -> bytes | None:
        assert isinstance(keys, list)
        assert keys
        return self.inner.wait_many(keys, timeout)


class TestThreeMethods(BackendContract):
    """Three methods suffice for plain aborts; anything else is refused."""

    @pytest.fixture
    def make_backend(self) -> Callable[[], EventBackend]:
        backend = ThreeMethods()
        return lambda: backend


class FourMethods(ThreeMethods):
    """Has ``read``, and thereby promises to keep its signals."""

    def read(self, key: bytes) -> Event | None:
        return Event(key) if self.poll(key) else None


class TestFourMethods(BackendContract):
    """A signal can be read more than once."""

    @pytest.fixture
    def make_backend(self) -> Callable[[], EventBackend]:
        backend = FourMethods()
        return lambda: backend


class TestConsuming(BackendContract):
    """Three methods suffice for plain aborts even if each signal is received only once."""

    @pytest.fixture
    def make_backend(self) -> Callable[[], EventBackend]:
        store = Store()
        return lambda: Consuming(store)


class ConsumingAndHearingAll(Consuming):
    """Waits for the worker's live collection of keys."""

    receives_all = True


class TestConsumingAndHearingAll(BackendContract):
    """The same works with a single wait for all keys."""

    @pytest.fixture
    def make_backend(self) -> Callable[[], EventBackend]:
        store = Store()
        return lambda: ConsumingAndHearingAll(store)


class Unreadable(FourMethods):
    """A backend whose ``read`` fails at first."""

    failures = 3

    def read(self, key: bytes) -> Event | None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("not now")
        return super().read(key)


def test_what_was_handed_out_and_could_not_be_read_is_received_later() -> None:
    """A signal that could not be read is received later: waiting for it again would lose the abort."""
    backend = Unreadable()
    backend.notify(b"a", 60_000)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            backend.receive([b"a"], 1)

    assert backend.receive([b"b"], 1) == (b"a", Event(b"a"))
    assert backend.receive([b"a"], 1) is None


@pytest.mark.usefixtures("core", "worker")
def test_a_worker_asks_for_nothing_that_it_has_received(
    broker: StubBroker, backend: EventBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker uses the received event, without another read, which might find it expired."""
    started = threading.Event()

    @dramatiq.actor(store_results=True)
    def task() -> None:
        run_forever(started)

    message = task.send()
    assert started.wait(PATIENCE)
    asked: list[bytes] = []
    for name in ("read", "poll"):
        monkeypatch.setattr(backend, name, asked.append)
    abort(message.message_id, reason="too slow")

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted: too slow")
    assert asked == []


def test_who_cannot_do_it_is_named() -> None:
    """The error for an unsupported feature names the backend and the method to implement."""
    backend = ThreeMethods()

    with pytest.raises(UnsupportedByBackend, match=r"ThreeMethods cannot be queried.*read\(\)"):
        backend.read(b"a")

    with pytest.raises(UnsupportedByBackend, match=r"ThreeMethods carries no values.*signal\(\) and read\(\)"):
        backend.signal([Event(b"a", b"value", 1)])
    with pytest.raises(UnsupportedByBackend, match=r"ThreeMethods cannot revoke a request.*revoke\(\)"):
        backend.revoke(b"a")


@pytest.mark.slow
class TestSQLite(BackendContract):
    """The example carries values and revokes events, between any processes."""

    @pytest.fixture
    def make_backend(self, tmp_path: Path) -> Callable[[], EventBackend]:
        backend = runpy.run_path(str(SQLITE_BACKEND))["SQLiteBackend"]
        return lambda: backend(tmp_path / "events")


@pytest.fixture
def events_in_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make worker processes and this one use the example."""
    monkeypatch.setenv("TEST_SQLITE_EVENTS", str(tmp_path / "events"))


@pytest.mark.slow
@pytest.mark.usefixtures("events_in_sqlite")
def test_sqlite_reaches_other_processes(app: ModuleType, start_processes: Any) -> None:
    """On SQLite, a waiting message, running ones and one with a grace period are aborted."""
    names = [f"{app.broker.namespace}-{number}" for number in range(5)]
    waits = app.run.message(names[0])
    abort(waits.message_id)
    app.broker.enqueue(waits)
    start_processes()
    run = [app.run.send(name) for name in names[1:4]]
    for name in names[1:4]:
        told(app, name)
    abort(run)
    finishes = app.finish_in_time.send(names[4])
    told(app, names[4])
    abort(finishes, abort_timeout=60_000)

    assert [result_type(message) for message in (waits, *run)] == [None, "Abort", "Abort", "Abort"]
    assert result_type(finishes) == "in time: True"
    assert [restore(waits.message_id), restore(waits.message_id)] == [True, False]
