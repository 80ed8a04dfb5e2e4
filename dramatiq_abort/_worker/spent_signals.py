"""Signals that an event backend may have consumed, although their messages may run again."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..backends.base import keeps_signals

if TYPE_CHECKING:
    from ..backends.base import EventBackend

__all__ = ["SpentSignals"]


class SpentSignals:
    """Repeats signals that have not stopped their message: one that failed by itself may be retried on any worker.

    Does nothing for a backend that keeps its signals.

    Parameters:
      backend: The event backend that handed the signals out.
      ttl: Their new time to live in milliseconds, because the original one is unknown.
    """

    def __init__(self, backend: EventBackend, ttl: int) -> None:
        self._backend = backend
        self._ttl = ttl
        self._is_needed = not keeps_signals(backend)
        self._keys: deque[bytes] = deque()

    def add(self, key: bytes) -> None:
        """Schedule the signal of a key. May be called from any thread, and does not wait for the backend."""
        if self._is_needed:
            self._keys.append(key)

    def put_back(self) -> None:
        """Signal all scheduled keys. If the backend raises an exception, the rest is kept for the next call."""
        while self._keys:
            self._backend.notify(self._keys[0], self._ttl)
            self._keys.popleft()
