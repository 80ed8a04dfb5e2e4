"""What an event backend carries."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["BROADCAST_PREFIX", "MAX_EVENTS", "Event"]

#: How many events one step takes: a few milliseconds of a server's time.
MAX_EVENTS: Final = 100

#: The prefix of the keys of events for all workers. Any other event is for the workers that run the message it names.
BROADCAST_PREFIX: Final = b"all:"


class Event(NamedTuple):
    """What an event backend carries.

    Parameters:
      key: By which it is known.
      value: What it says. A backend that carries no values carries only events without one.
      ttl: For how many milliseconds it stays readable, counted from now. None where that is not known.
      priority: Whether it takes the place of a live one with the same key: 1, always; 0, unless that one says nothing
        and this one something, because that says the most; -1, never.

    However that is, none ends before an earlier one of its key would have.
    """

    key: bytes
    value: bytes = b""
    ttl: int | None = None
    priority: int = 0

    def gives_way_to(self, value: bytes) -> bool:
        """Say whether a live event of the same key, with this value, keeps its value."""
        return self.priority < 0 or (self.priority == 0 and bool(self.value) and not value)
