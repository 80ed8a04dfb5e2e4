"""Tombstones kept in memory."""

from __future__ import annotations

import heapq
import math
import time
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

from .._protocol.event import Event

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Tombstone", "Tombstones", "event_of", "now"]

#: Up to this many pending tombstones are looked up in the keys; if more are pending, the keys are looked up in them.
_FEW: Final = 8


def now() -> float:
    """Return the time of the monotonic clock, in milliseconds."""
    return time.monotonic() * 1000


class Tombstone(NamedTuple):
    """The event of a key, kept until its time to live ends.

    Parameters:
      value: The value of the event.
      expiry: When the time to live ends, on the clock of ``now()``.
      stamp: Identifies the signal: tombstones with the same key, value and stamp are the same, wherever they were read.
      made: When the event was signaled, on the clock of ``stamp``; None if unknown.
    """

    value: bytes
    expiry: float
    stamp: float
    made: float | None = None

    def is_same(self, other: Tombstone | None) -> bool:
        """Return whether this tombstone is the same as ``other``, and need not be handed out again."""
        return other is not None and (self.value, self.stamp) == (other.value, other.stamp)


def event_of(key: bytes, tombstone: Tombstone) -> Event:
    """Return the event of a key with this tombstone."""
    return Event(key, tombstone.value, max(0, int(tombstone.expiry - now())))


class Tombstones:
    """Keeps tombstones by key until they expire, and hands each out once. Any method may be called from any thread.

    Parameters:
      most: Maximum number of tombstones, unlimited by default. Beyond it, the oldest are dropped.
    """

    def __init__(self, most: float = math.inf) -> None:
        self._most = most
        #: Whether no tombstone has been dropped since the last ``replace()``.
        self.is_whole: bool = True
        #: Whether there are any tombstones, including expired ones that have not been removed yet.
        self.is_used: bool = False
        self._changing = Lock()  # get() does without it, because every message that starts calls it
        self._live: dict[bytes, Tombstone] = {}
        self._by_expiry: list[tuple[float, bytes]] = []
        self._not_handed_out: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._live)

    def add(self, key: bytes, tombstone: Tombstone) -> None:
        """Add or replace the tombstone of a key. It is handed out, again if replaced, unless it is the same."""
        with self._changing:
            self._forget_expired_locked()
            if not tombstone.is_same(self._live.get(key)):
                self._live[key] = tombstone
                self.is_used = True
                self._not_handed_out.add(key)
                heapq.heappush(self._by_expiry, (tombstone.expiry, key))
                self._keep_bounds_locked()

    def discard(self, key: bytes) -> bool:
        """Remove the tombstone of a key, and return whether it was live. If it was handed out, so is its removal."""
        with self._changing:
            live = self.get(key) is not None
            if live:
                del self._live[key]
                self._not_handed_out ^= {key}
                self.is_used = bool(self._live)
            return live

    def replace(self, tombstones: dict[bytes, Tombstone]) -> None:
        """Replace all tombstones. Those that were handed out before and are the same are not handed out again."""
        with self._changing:
            before = self._live
            news = {key for key, tombstone in tombstones.items() if not tombstone.is_same(before.get(key))}
            self._not_handed_out = news | (self._not_handed_out & tombstones.keys())
            self._by_expiry = [(tombstone.expiry, key) for key, tombstone in tombstones.items()]
            heapq.heapify(self._by_expiry)
            self._live = tombstones
            self.is_used = bool(tombstones)
            self.is_whole = True
            self._keep_bounds_locked()

    def get(self, key: bytes) -> Tombstone | None:
        """Return the live tombstone of a key, or None."""
        tombstone = self._live.get(key)
        return None if tombstone is None or tombstone.expiry <= now() else tombstone

    def live(self) -> dict[bytes, Tombstone]:
        """Return all live tombstones by key."""
        with self._changing:
            self._forget_expired_locked()
            return self._live.copy()

    def forget_expired(self) -> None:
        """Remove expired tombstones now, rather than with the next ``add()``, so that ``is_used`` is up to date."""
        with self._changing:
            self._forget_expired_locked()

    def hand_out(self, keys: Collection[bytes] | None = None) -> tuple[bytes, Event | None] | None:
        """Return a key among ``keys``, or any key, whose current tombstone has not been handed out, with its event.

        If the tombstone was removed after it had been handed out, return its key with None instead of an event.
        """
        with self._changing:
            waiting = self._not_handed_out
            if not waiting:
                return None
            # Few pending tombstones are looked up in the keys. If many are pending, most are for other keys.
            looked_up = waiting.copy() if keys is None or len(waiting) <= _FEW else keys
            among = waiting if looked_up is keys else keys
            for key in looked_up:
                if among is None or key in among:
                    waiting.discard(key)
                    tombstone = self.get(key)
                    if tombstone is not None or key not in self._live:
                        return key, None if tombstone is None else event_of(key, tombstone)
            return None

    def _forget_expired_locked(self) -> None:
        time_now = now()
        while self._by_expiry and self._by_expiry[0][0] <= time_now:
            _, key = heapq.heappop(self._by_expiry)
            tombstone = self._live.get(key)
            if tombstone is None or tombstone.expiry <= time_now:  # unless it was added again with a later expiry
                self._live.pop(key, None)
                self._not_handed_out.discard(key)
        self.is_used = bool(self._live)

    def _keep_bounds_locked(self) -> None:
        while len(self._live) > self._most:
            self.is_whole = False
            key = next(iter(self._live))
            del self._live[key]
            self._not_handed_out.discard(key)
        if len(self._by_expiry) > 2 * len(self._live) + 1000:  # entries of keys that were removed, or added repeatedly
            self._by_expiry = [(tombstone.expiry, key) for key, tombstone in self._live.items()]
            heapq.heapify(self._by_expiry)
