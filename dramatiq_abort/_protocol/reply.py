"""Replies, which workers write for callers to read."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["MAX_REPLIES", "MAX_REPLY", "Reply"]

#: Maximum number of replies written or read in one step.
MAX_REPLIES: Final = 100

#: Maximum length of a reply, in bytes. A longer one is ignored.
MAX_REPLY: Final = 1 << 20


class Reply(NamedTuple):
    """A reply of a worker, as kept in a reply store.

    Parameters:
      name: The name under which callers wait for the reply. A later reply replaces an earlier one with the same name.
      text: The content.
      ttl: Time to live in milliseconds, during which the reply can be read.
    """

    name: bytes
    text: bytes
    ttl: int
