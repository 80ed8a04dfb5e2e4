"""Times as people read them."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Final

__all__ = ["moment", "span"]

#: The units, the largest first, in seconds.
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def moment(milliseconds: int) -> tuple[str, str] | None:
    """Return a time since 1970 as the day and the time of day, in UTC; None: no calendar has it."""
    try:
        found = datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return None
    return f"{found:%Y-%m-%d}", f"{found:%H:%M:%S}"


def span(milliseconds: int) -> str:
    """Return how long something lasts, in the two largest units that it has."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    left = milliseconds // 1000
    parts = []
    for seconds, unit in _UNITS:
        count, left = divmod(left, seconds)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])
