"""Event backends of somebody's own: one with the three methods that it must have, and the one of docs/backends.md."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import result_type, told

from dramatiq_abort import Event, EventBackend, UnsupportedByBackend, abort, restore
from dramatiq_abort.backends import StubBackend
from dramatiq_abort.contract import BackendContract

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

SQLITE_BACKEND = Path(__file__).parent.parent / "examples" / "sqlite_backend.py"


class ThreeMethods(EventBackend):
    """The least that a backend can be."""

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
    """They are enough for plain aborts, and what they are not enough for is refused."""

    @pytest.fixture
    def make_backend(self) -> Callable[[], EventBackend]:
        backend = ThreeMethods()
        return lambda: backend


def test_who_cannot_do_it_is_named() -> None:
    """With what is to be written for it."""
    backend = ThreeMethods()

    with pytest.raises(UnsupportedByBackend, match=r"ThreeMethods carries no values.*signal\(\) and read\(\)"):
        backend.signal([Event(b"a", b"value", 1)])
    with pytest.raises(UnsupportedByBackend, match=r"ThreeMethods cannot take a request back.*revoke\(\)"):
        backend.revoke(b"a")


class TestSQLite(BackendContract):
    """The example carries values and takes events back, between any processes."""

    @pytest.fixture
    def make_backend(self, tmp_path: Path) -> Callable[[], EventBackend]:
        backend = runpy.run_path(str(SQLITE_BACKEND))["SQLiteBackend"]
        return lambda: backend(tmp_path / "events")


@pytest.fixture
def events_in_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the worker processes and for this one."""
    monkeypatch.setenv("TEST_SQLITE_EVENTS", str(tmp_path / "events"))


@pytest.mark.usefixtures("events_in_sqlite")
def test_sqlite_reaches_other_processes(app: ModuleType, start_processes: Any) -> None:
    """A message that waits, some that run, and one that has a grace period."""
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
