"""The tombstones that a process knows, in memory."""

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

#: So many that have not been handed out are looked up one by one; if there are more, the keys are.
_FEW: Final = 8


def now() -> float:
    """Return the milliseconds of a clock that nobody sets."""
    return time.monotonic() * 1000


class Tombstone(NamedTuple):
    """What is known of one key.

    Parameters:
      value: The event's value.
      expiry: When it ends, on the clock of ``now``.
      stamp: Two of the same key and value are the same if this is the same, wherever they were heard of.
      made: When it was signaled, on the clock of ``stamp``; None where that is not known.
    """

    value: bytes
    expiry: float
    stamp: float
    made: float | None = None

    def is_same(self, other: Tombstone | None) -> bool:
        """Say whether it is not worth telling anybody of this one who knows the other."""
        return other is not None and (self.value, self.stamp) == (other.value, other.stamp)


def event_of(key: bytes, tombstone: Tombstone) -> Event:
    """Return the event that the tombstone of a key stands for."""
    return Event(key, tombstone.value, max(0, int(tombstone.expiry - now())))


class Tombstones:
    """Events by key, each until its time is over, each handed out once. Any thread may call anything.

    Parameters:
      most: How many there may be; without it, any number. When there are more, those go that came first.
    """

    def __init__(self, most: float = math.inf) -> None:
        self._most = most
        #: Whether none had to go, since they were last replaced.
        self.is_whole: bool = True
        #: Whether there are any, or were until their time was over.
        self.is_used: bool = False
        self._changing = Lock()  # not for get(), which messages call that start
        self._live: dict[bytes, Tombstone] = {}
        self._by_expiry: list[tuple[float, bytes]] = []
        self._not_handed_out: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._live)

    def add(self, key: bytes, tombstone: Tombstone) -> None:
        """Add one, or put it in the place of the one with this key; it is handed out (again) unless it is the same."""
        with self._changing:
            self._forget_expired_locked()
            if not tombstone.is_same(self._live.get(key)):
                self._live[key] = tombstone
                self.is_used = True
                self._not_handed_out.add(key)
                heapq.heappush(self._by_expiry, (tombstone.expiry, key))
                self._keep_bounds_locked()

    def discard(self, key: bytes) -> bool:
        """Remove the one with this key, and say whether it was still live. If it was handed out, that is, too."""
        with self._changing:
            live = self.get(key) is not None
            if live:
                del self._live[key]
                self._not_handed_out ^= {key}
                self.is_used = bool(self._live)
            return live

    def replace(self, tombstones: dict[bytes, Tombstone]) -> None:
        """Know exactly these from now on. What was known as it is, and handed out, is not handed out again."""
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
        """Return the one with this key, or None if there is none any more."""
        tombstone = self._live.get(key)
        return None if tombstone is None or tombstone.expiry <= now() else tombstone

    def live(self) -> dict[bytes, Tombstone]:
        """Return all there are."""
        with self._changing:
            self._forget_expired_locked()
            return self._live.copy()

    def forget_expired(self) -> None:
        """Say at once that there are none, when their time is over, and not only when the next one comes."""
        with self._changing:
            self._forget_expired_locked()

    def hand_out(self, keys: Collection[bytes] | None = None) -> tuple[bytes, Event | None] | None:
        """Return one of ``keys``, or of all, that has not been handed out as it is, with its event.

        Of one that was removed after it had been handed out, that is None.
        """
        with self._changing:
            waiting = self._not_handed_out
            if not waiting:
                return None
            # A few are looked up among the keys; of many, most wait for somebody else.
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
            if tombstone is None or tombstone.expiry <= time_now:  # and not added again with a later expiry
                self._live.pop(key, None)
                self._not_handed_out.discard(key)
        self.is_used = bool(self._live)

    def _keep_bounds_locked(self) -> None:
        while len(self._live) > self._most:
            self.is_whole = False
            key = next(iter(self._live))
            del self._live[key]
            self._not_handed_out.discard(key)
        if len(self._by_expiry) > 2 * len(self._live) + 1000:  # of keys that are gone, or came again and again
            self._by_expiry = [(tombstone.expiry, key) for key, tombstone in self._live.items()]
            heapq.heapify(self._by_expiry)
