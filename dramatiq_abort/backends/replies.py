"""The interface of reply stores, an optional part of event backends."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from .._protocol.reply import Reply

__all__ = ["ReplyStore"]


class ReplyStore(abc.ABC):
    """Keeps the replies of workers by name, and the registered workers. Any method may be called from any thread."""

    @abc.abstractmethod
    def put(self, replies: Iterable[Reply]) -> None:
        """Store up to 100 replies. Each replaces an earlier one with the same name."""

    @abc.abstractmethod
    def wait(self, names: Collection[bytes], timeout: int) -> dict[bytes, bytes]:
        """Wait until there is at least one live reply with one of these names, and return those there are.

        Reading does not delete a reply.

        Parameters:
          names: Any number of names.
          timeout: How many milliseconds to wait at most; 0 to return at once.

        Returns:
          dict[bytes, bytes]: The content of each reply by its name; empty after the timeout.
        """

    @abc.abstractmethod
    def register(self, worker: bytes, ttl: int) -> None:
        """Register a worker for the next ``ttl`` milliseconds."""

    @abc.abstractmethod
    def unregister(self, worker: bytes) -> None:
        """Unregister a worker."""

    @abc.abstractmethod
    def workers(self) -> list[bytes]:
        """Return the registered workers."""
