"""Decoding of untrusted input."""

from __future__ import annotations

import json
from typing import Any, Final

from ..errors import InvalidRequest

__all__ = ["number_of", "object_of", "text_of"]

#: Maximum absolute value of a time in milliseconds or a count. No worker or caller writes a larger one.
_MAX_NUMBER: Final = 10**15


def object_of(text: bytes, at_most: int) -> dict[str, Any]:
    """Return the JSON object that ``text`` encodes.

    Raises:
      InvalidRequest: If it is not a JSON object, or is longer than ``at_most`` bytes.
    """
    if len(text) > at_most:
        raise InvalidRequest(f"too long: {len(text)} bytes, and at most {at_most} are allowed")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"not JSON: {text[:80]!r}") from error
    if not isinstance(found, dict):
        raise InvalidRequest(f"not a JSON object: {text[:80]!r}")
    return found


def text_of(value: object) -> str | None:
    """Return ``value`` if it is a str, else None."""
    return value if isinstance(value, str) else None


def number_of(value: object) -> int | None:
    """Return ``value`` as an int if it can be a time or a count, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_MAX_NUMBER <= value <= _MAX_NUMBER:
        return None
    return int(value)
