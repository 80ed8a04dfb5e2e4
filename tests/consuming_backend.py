"""An event backend that consumes its signals: each can be received once."""

from __future__ import annotations

import time
from threading import Condition, Event
from typing import TYPE_CHECKING

from dramatiq_abort import EventBackend

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Consuming", "Store"]


class Store:
    """The signals of all backends that share it."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.ends: dict[bytes, float] = {}

    def take_locked(self, keys: Collection[bytes]) -> bytes | None:
        for key in [*self.ends]:
            if self.ends[key] <= time.monotonic():
                del self.ends[key]
            elif key in keys:
                del self.ends[key]
                return key
        return None


class Consuming(EventBackend):
    """Implements three methods: ``poll`` and ``wait_many`` remove a signal, whatever message it is for."""

    def __init__(self, store: Store) -> None:
        self.store = store
        #: Until this is set, a worker receives nothing.
        self.may_hear = Event()
        self.may_hear.set()

    def notify(self, key: bytes, ttl: int) -> None:
        with self.store.changed:
            end = time.monotonic() + ttl / 1000
            self.store.ends[key] = max(end, self.store.ends.get(key, 0))
            self.store.changed.notify_all()

    def poll(self, key: bytes) -> bool:
        with self.store.changed:
            return self.store.take_locked([key]) is not None

    def wait_many(self, keys: Collection[bytes], timeout: int) -> bytes | None:
        if not self.may_hear.wait(timeout / 1000):
            return None
        taken: bytes | None = None

        def can_take() -> bool:
            nonlocal taken
            taken = self.store.take_locked(keys)
            return taken is not None

        with self.store.changed:
            self.store.changed.wait_for(can_take, timeout / 1000)
        return taken
