"""What a worker tells those that have asked."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["MAX_REPLIES", "MAX_REPLY", "Reply"]

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
