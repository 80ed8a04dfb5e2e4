"""What an event backend may have besides: a place where workers leave word for those who have asked."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import UnsupportedByBackend

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from .base import EventBackend

__all__ = ["MAX_REPLIES", "MAX_REPLY", "Reply", "ReplyStore", "reply_store_of"]

#: How many notes one step takes.
MAX_REPLIES: Final = 100

#: A longer note than this is none of ours, in bytes.
MAX_REPLY: Final = 1 << 20


class Reply(NamedTuple):
    """One word of one worker.

    Parameters:
      name: By which those who wait for it know it. A later note takes the place of an earlier one.
      text: What it says.
      ttl: For how many milliseconds it can be read.
    """

    name: bytes
    text: bytes
    ttl: int


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


def reply_store_of(backend: EventBackend) -> ReplyStore:
    """Return the reply store of an event backend.

    Raises:
      UnsupportedByBackend: If it has none.
    """
    if backend.reply_store is None:
        raise UnsupportedByBackend(
            f"{type(backend).__name__} has no reply store: workers can report neither outcomes nor running messages."
        )
    return backend.reply_store
