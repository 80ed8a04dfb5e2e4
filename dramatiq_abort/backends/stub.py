"""An event backend within one process."""

from __future__ import annotations

import math
import time
from threading import Condition
from typing import TYPE_CHECKING

from .._protocol.event import BROADCAST_PREFIX, Event
from .base import EventBackend
from .replies import ReplyStore
from .tombstones import Tombstone, Tombstones, event_of, now

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from .._protocol.reply import Reply

__all__ = ["StubBackend"]


class StubBackend(EventBackend):
    """Carries events between the threads of one process. It is meant for tests."""

    receives_all = True
    supports_broadcast = True

    def __init__(self) -> None:
        self._changed = Condition()
        self._woken = False
        self._tombstones = Tombstones()
        self._for_all = Tombstones()
        self.reply_store: ReplyStore = _StubReplyStore()

    def notify(self, key: bytes, ttl: int) -> None:
        self.signal([Event(key, b"", ttl)])

    def signal(self, events: Iterable[Event]) -> None:
        with self._changed:
            for event in events:
                expiry, value = now() + (event.ttl or 0), event.value
                tombstones = self._of(event.key)
                before = tombstones.get(event.key)
                if before is not None:
                    expiry = max(expiry, before.expiry)
                    value = before.value if event.gives_way_to(before.value) else value
                tombstones.add(event.key, Tombstone(value, expiry, stamp=now()))
            self._changed.notify_all()

    def poll(self, key: bytes) -> bool:
        return self._of(key).get(key) is not None

    def read(self, key: bytes) -> Event | None:
        tombstone = self._of(key).get(key)
        return None if tombstone is None else event_of(key, tombstone)

    def broadcasts(self) -> Mapping[bytes, Event]:
        return {key: event_of(key, tombstone) for key, tombstone in self._for_all.live().items()}

    @property
    def no_events_before(self) -> float:  # type: ignore[override]  # the tombstones are always up to date
        return -math.inf if self._tombstones.is_used or self._for_all.is_used else math.inf

    def revoke(self, key: bytes) -> bool:
        with self._changed:
            revoked = self._of(key).discard(key)
            self._changed.notify_all()
            return revoked

    def wait_many(self, keys: Collection[bytes], timeout: int) -> bytes | None:
        received = self.receive(keys, timeout)
        return None if received is None else received[0]

    def receive(self, keys: Collection[bytes], timeout: int) -> tuple[bytes, Event | None] | None:
        received: tuple[bytes, Event | None] | None = None

        def is_over() -> bool:
            nonlocal received
            self._for_all.forget_expired()
            self._tombstones.forget_expired()
            received = self._for_all.hand_out() or self._tombstones.hand_out(keys)
            return received is not None or self._woken

        with self._changed:
            self._changed.wait_for(is_over, timeout / 1000)
            self._woken = False
        return received

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def _of(self, key: bytes) -> Tombstones:
        return self._for_all if key.startswith(BROADCAST_PREFIX) else self._tombstones


class _StubReplyStore(ReplyStore):
    def __init__(self) -> None:
        self._changed = Condition()
        self._replies = Tombstones()
        self._workers = Tombstones()

    def put(self, replies: Iterable[Reply]) -> None:
        with self._changed:
            for reply in replies:
                self._replies.add(reply.name, Tombstone(reply.text, now() + reply.ttl, stamp=now()))
            self._changed.notify_all()

    def wait(self, names: Collection[bytes], timeout: int) -> dict[bytes, bytes]:
        deadline = time.monotonic() + timeout / 1000
        with self._changed:
            while True:
                found = {name: reply.value for name in names if (reply := self._replies.get(name)) is not None}
                left = deadline - time.monotonic()
                if found or left <= 0:
                    return found
                self._changed.wait(left)

    def register(self, worker: bytes, ttl: int) -> None:
        self._workers.add(worker, Tombstone(b"", now() + ttl, stamp=now()))

    def unregister(self, worker: bytes) -> None:
        self._workers.discard(worker)

    def workers(self) -> list[bytes]:
        return sorted(self._workers.live())
