"""The tombstones that a process knows, in memory."""

from __future__ import annotations

import heapq
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["Tombstones"]


class Tombstones:
    """Events by key, each until its time is over, each handed out once. Any thread may call anything.

    Parameters:
      now: The clock that the expiries are on, in milliseconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._changing = Lock()  # not for get(), which every message calls
        self._live: dict[bytes, tuple[bytes, float]] = {}
        self._by_expiry: list[tuple[float, bytes]] = []
        self._not_handed_out: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._live)

    def add(self, key: bytes, value: bytes, expiry: float) -> None:
        """Add one, or put it in the place of the one with this key; it is handed out (again) unless it is the same."""
        with self._changing:
            self._forget_expired_locked()
            if self._live.get(key) != (value, expiry):
                self._live[key] = value, expiry
                self._not_handed_out.add(key)
                heapq.heappush(self._by_expiry, (expiry, key))

    def discard(self, key: bytes) -> bool:
        """Remove the one with this key, and say whether it was still live."""
        with self._changing:
            live = self.get(key) is not None
            self._live.pop(key, None)
            self._not_handed_out.discard(key)
            return live

    def replace(self, tombstones: dict[bytes, tuple[bytes, float]]) -> None:
        """Know exactly these from now on. What was known as it is, and handed out, is not handed out again."""
        with self._changing:
            before = self._live
            news = {key for key, tombstone in tombstones.items() if before.get(key) != tombstone}
            self._not_handed_out = news | (self._not_handed_out & tombstones.keys())
            self._by_expiry = [(expiry, key) for key, (_, expiry) in tombstones.items()]
            heapq.heapify(self._by_expiry)
            self._live = tombstones

    def get(self, key: bytes) -> tuple[bytes, float] | None:
        """Return the value and the expiry of the one with this key, or None if there is none any more."""
        tombstone = self._live.get(key)
        return None if tombstone is None or tombstone[1] <= self._now() else tombstone

    def hand_out(self, keys: Collection[bytes]) -> bytes | None:
        """Return one of ``keys`` that is known, live and has not been handed out; from now on it has."""
        with self._changing:
            for key in keys if self._not_handed_out else ():
                if key in self._not_handed_out:
                    self._not_handed_out.discard(key)
                    if self.get(key) is not None:
                        return key
            return None

    def _forget_expired_locked(self) -> None:
        now = self._now()
        while self._by_expiry and self._by_expiry[0][0] <= now:
            _, key = heapq.heappop(self._by_expiry)
            tombstone = self._live.get(key)
            if tombstone is not None and tombstone[1] <= now:  # and not added again with a later expiry
                del self._live[key]
                self._not_handed_out.discard(key)
