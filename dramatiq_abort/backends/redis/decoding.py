"""What Redis says, which may come from anybody, read as tombstones."""

from __future__ import annotations

from ..._protocol.request import MAX_KEY, MAX_TIME, MAX_VALUE
from ..tombstones import Tombstone, now
from .scripts import LATEST

__all__ = ["position", "read_entry", "read_tombstone", "tombstone_of"]


def position(entry_id: bytes) -> tuple[int, ...]:
    """Make a log entry's id comparable."""
    return tuple(map(int, entry_id.split(b"-")))


def tombstone_of(value: bytes, end: int, server_now: int, made: int | None = None) -> Tombstone:
    """Make one of what the server says. What is left of its time is counted from now, so the two clocks never meet."""
    return Tombstone(value, now() + (end - server_now), stamp=end, made=made)


def read_tombstone(key: bytes, end: bytes, value: bytes | None, server_now: int) -> Tombstone | None:
    """Return what the index and the values have of a key, or None if that is nothing any more.

    Raises:
      ValueError: When it is none of ours.
    """
    if value is None and b"." in end:  # the value has been evicted
        return None
    try:
        ending = int(float(end))
    except OverflowError as error:
        raise ValueError(end) from error
    _check(key, value or b"", ending, server_now)
    # What is over waits for the next signal, to be removed.
    return tombstone_of(value or b"", ending, server_now) if ending > server_now else None


def read_entry(fields: list[bytes]) -> tuple[bytes, int, list[tuple[bytes, int]]]:
    """Return the value of an entry in the log, when it was made, and the keys with their ends.

    Raises:
      ValueError: When it is none of ours.
    """
    (v, value, n, made), changes = fields[:4], fields[4:]
    if (v, n) != (b"v", b"n"):
        raise ValueError(fields)
    made_at = int(made)
    ends = [(key, int(end)) for key, end in zip(changes[::2], changes[1::2], strict=True)]
    for key, end in ends:
        _check(key, value, end or made_at, made_at)
    if abs(made_at) > LATEST:
        raise ValueError(fields)
    return value, made_at, ends


def _check(key: bytes, value: bytes, end: int, server_now: int) -> None:
    """Look at what may come from anybody.

    Raises:
      ValueError: When it is longer, or is over at another time, than whatever ``abort()`` signals.
    """
    if len(key) > MAX_KEY or len(value) > MAX_VALUE or abs(end - server_now) > MAX_TIME:
        raise ValueError(key)
