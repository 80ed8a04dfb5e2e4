"""What an event backend may have besides: a place where workers leave word for those who have asked."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from .._protocol.reply import Reply

__all__ = ["ReplyStore"]


class ReplyStore(abc.ABC):
    """Notes by name, and the roll of the workers that are there. Any thread may call anything."""

    @abc.abstractmethod
    def put(self, replies: Iterable[Reply]) -> None:
        """Put up some notes, 100 at the most."""

    @abc.abstractmethod
    def wait(self, names: Collection[bytes], timeout: int) -> dict[bytes, bytes]:
        """Return what is said under these names, as soon as there is anything; nothing when the time is over.

        Parameters:
          names: Any number of them.
          timeout: For how many milliseconds to wait at the most; 0: not at all.
        """

    @abc.abstractmethod
    def register(self, worker: bytes, ttl: int) -> None:
        """Put a worker on the roll, for ``ttl`` milliseconds from now on."""

    @abc.abstractmethod
    def unregister(self, worker: bytes) -> None:
        """Take a worker off the roll."""

    @abc.abstractmethod
    def workers(self) -> list[bytes]:
        """Return the workers that are on the roll."""
