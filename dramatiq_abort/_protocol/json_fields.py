"""Reading what may come from anybody."""

from __future__ import annotations

import json
from typing import Any, Final

from ..errors import InvalidRequest

__all__ = ["number_of", "object_of", "text_of"]

#: No time in milliseconds, and no count, that is told by one of us is farther from 0 than this.
_MOST: Final = 10**15


def object_of(text: bytes, at_most: int) -> dict[str, Any]:
    """Return the JSON object that this is.

    Raises:
      InvalidRequest: When it is none, or has more bytes than ``at_most``.
    """
    if len(text) > at_most:
        raise InvalidRequest(f"{len(text)} bytes: the most is {at_most}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"no JSON: {text[:80]!r}") from error
    if not isinstance(found, dict):
        raise InvalidRequest(f"no JSON object: {text[:80]!r}")
    return found


def text_of(said: object) -> str | None:
    """Return a text, or None if this is none."""
    return said if isinstance(said, str) else None


def number_of(said: object) -> int | None:
    """Return a whole number that can be a time or a count, or None if this is none."""
    if isinstance(said, bool) or not isinstance(said, (int, float)) or not -_MOST <= said <= _MOST:
        return None
    return int(said)
