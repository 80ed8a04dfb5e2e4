"""The decoding of tombstones from Redis. The data is untrusted: any client of the server may have written it."""

from __future__ import annotations

from ..._protocol.request import MAX_KEY, MAX_TIME, MAX_VALUE
from ..tombstones import Tombstone, now
from .scripts import LATEST

__all__ = ["position", "read_entry", "read_tombstone", "tombstone_of"]


def position(entry_id: bytes) -> tuple[int, ...]:
    """Return the id of a log entry as a tuple, for comparisons."""
    return tuple(map(int, entry_id.split(b"-")))


def tombstone_of(value: bytes, end: int, server_now: int, made: int | None = None) -> Tombstone:
    """Return a tombstone for an event that ends at ``end`` on the server's clock.

    Its remaining time to live is counted from now on the local clock, so the two clocks are never compared.
    """
    return Tombstone(value, now() + (end - server_now), stamp=end, made=made)


def read_tombstone(key: bytes, end: bytes, value: bytes | None, server_now: int) -> Tombstone | None:
    """Return the tombstone of a key from its entries in the index and the values, or None if it is not live.

    Raises:
      ValueError: If the data is malformed.
    """
    if value is None and b"." in end:  # the value was evicted
        return None
    try:
        ending = int(float(end))
    except OverflowError as error:
        raise ValueError(end) from error
    _check(key, value or b"", ending, server_now)
    # An expired tombstone stays in the index until the next signal removes it.
    return tombstone_of(value or b"", ending, server_now) if ending > server_now else None


def read_entry(fields: list[bytes]) -> tuple[bytes, int, list[tuple[bytes, int]]]:
    """Return the value of a log entry, the time at which it was made, and its keys with their ends.

    Raises:
      ValueError: If the entry is malformed.
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
    """Check a key, a value and an end against the limits of ``abort()``.

    Raises:
      ValueError: If the key or the value is too long, or the end is too far from ``server_now``.
    """
    if len(key) > MAX_KEY or len(value) > MAX_VALUE or abs(end - server_now) > MAX_TIME:
        raise ValueError(key)
