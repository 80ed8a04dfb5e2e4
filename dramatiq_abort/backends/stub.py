"""An event backend inside of one process."""

from __future__ import annotations

from threading import Condition
from typing import TYPE_CHECKING

from .._tombstones import Tombstone, Tombstones, now
from ..backend import Event, EventBackend

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["StubBackend"]


class StubBackend(EventBackend):
    """Carries events between the threads of this process, and no further: for tests."""

    hears_all = True

    def __init__(self) -> None:
        self._changed = Condition()
        self._woken = False
        self._tombstones = Tombstones()

    def notify(self, key: bytes, ttl: int, value: bytes = b"") -> None:
        self.signal([Event(key, value, ttl)])

    def signal(self, events: Iterable[Event]) -> None:
        with self._changed:
            for event in events:
                expiry, value = now() + (event.ttl or 0), event.value
                before = self._tombstones.get(event.key)
                if before is not None:
                    expiry = max(expiry, before.expiry)
                    value = before.value if event.gives_way_to(before.value) else value
                self._tombstones.add(event.key, Tombstone(value, expiry, stamp=now()))
            self._changed.notify_all()

    def poll(self, key: bytes) -> bool:
        return self._tombstones.get(key) is not None

    def read(self, key: bytes) -> Event | None:
        tombstone = self._tombstones.get(key)
        return None if tombstone is None else Event(key, tombstone.value, max(0, int(tombstone.expiry - now())))

    def revoke(self, key: bytes) -> bool:
        with self._changed:
            revoked = self._tombstones.discard(key)
            self._changed.notify_all()
            return revoked

    def wait_many(self, keys: Collection[bytes], timeout: int) -> bytes | None:
        key: bytes | None = None

        def heard() -> bool:
            nonlocal key
            key = self._tombstones.hand_out(keys)
            return key is not None or self._woken

        with self._changed:
            self._changed.wait_for(heard, timeout / 1000)
            self._woken = False
        return key

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()
