"""Signals that a backend may have consumed when it handed them out, though their messages may come again."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..backends.base import keeps_signals

if TYPE_CHECKING:
    from ..backends.base import EventBackend

__all__ = ["SpentSignals"]


class SpentSignals:
    """Puts signals back that have not stopped their message: one that has failed by itself may be retried anywhere.

    Does nothing for a backend that keeps its signals.

    Parameters:
      backend: Where they came from.
      ttl: For how many milliseconds they are signaled again. How long they would have lived is not known.
    """

    def __init__(self, backend: EventBackend, ttl: int) -> None:
        self._backend = backend
        self._ttl = ttl
        self._is_needed = not keeps_signals(backend)
        self._keys: deque[bytes] = deque()

    def add(self, key: bytes) -> None:
        """Put the signal of a key back, soon. May be called in any thread, and does not wait for the backend."""
        if self._is_needed:
            self._keys.append(key)

    def put_back(self) -> None:
        """Signal all of them. What the backend raises comes out, and those that are left are tried the next time."""
        while self._keys:
            self._backend.notify(self._keys[0], self._ttl)
            self._keys.popleft()
