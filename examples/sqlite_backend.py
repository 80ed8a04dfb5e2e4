"""An event backend in a SQLite file, shared by all processes of one machine."""

import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from dramatiq_abort import Event, EventBackend

# Each change of a key gets the next number. A key without a value has been revoked.
TABLE = "CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY AUTOINCREMENT, key UNIQUE, value, expiry)"
FIND = "SELECT number, value, expiry FROM events WHERE key = ? AND expiry > ?"
PUT = "REPLACE INTO events (key, value, expiry) VALUES (?, ?, ?)"


class SQLiteBackend(EventBackend):
    """All processes that open the same path share the same events; a wait polls every 10 milliseconds."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._handed_out: dict[bytes, int] = {}
        self._handing_out = Lock()
        with self._transaction("IMMEDIATE") as database:
            database.execute(TABLE)

    def notify(self, key: bytes, ttl: int) -> None:
        self.signal([Event(key, ttl=ttl)])

    def poll(self, key: bytes) -> bool:
        return self.read(key) is not None

    def wait_many(self, keys: Collection[bytes], timeout: int) -> bytes | None:
        deadline = time.monotonic() + timeout / 1000
        while (key := self._hand_out(keys)) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return key

    def signal(self, events: Iterable[Event]) -> None:
        with self._transaction("IMMEDIATE") as database:
            database.execute("DELETE FROM events WHERE expiry <= ?", [now()])
            for event in events:
                value, expiry = event.value, now() + (event.ttl or 0)
                _, live, end = find(database, event.key)
                if live is not None:
                    value, expiry = live if event.gives_way_to(live) else value, max(expiry, end)
                database.execute(PUT, [event.key, value, expiry])

    def read(self, key: bytes) -> Event | None:
        with self._transaction("DEFERRED") as database:
            _, value, expiry = find(database, key)
        return None if value is None else Event(key, value, int(expiry - now()))

    def revoke(self, key: bytes) -> bool:
        with self._transaction("IMMEDIATE") as database:
            _, value, expiry = find(database, key)
            if value is not None:
                database.execute(PUT, [key, None, expiry])
        return value is not None

    def _hand_out(self, keys: Collection[bytes]) -> bytes | None:
        with self._handing_out, self._transaction("DEFERRED") as database:
            for key in keys:
                number, value, _ = find(database, key)
                if value is not None and self._handed_out.get(key) != number:
                    if len(self._handed_out) == 10_000:  # the oldest is unlikely to be waited for again
                        del self._handed_out[next(iter(self._handed_out))]
                    self._handed_out[key] = number
                    return key
                if value is None and number and self._handed_out.pop(key, None):
                    return key
        return None

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        """Open a connection per transaction: threads cannot share one, and processes must not."""
        with closing(sqlite3.connect(self._path, isolation_level=None)) as database, database:
            database.execute(f"BEGIN {kind}")
            yield database


def find(database: sqlite3.Connection, key: bytes) -> tuple[int, Any, float]:
    """Return the number, value and expiry of a live key."""
    return database.execute(FIND, [key, now()]).fetchone() or (0, None, 0)


def now() -> float:
    """Return the time in milliseconds, on the clock shared by all processes."""
    return time.time() * 1000
