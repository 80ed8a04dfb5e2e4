"""Events, which event backends carry."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["BROADCAST_PREFIX", "MAX_EVENTS", "Event"]

#: Maximum number of events signaled in one step: a few milliseconds of a server's time.
MAX_EVENTS: Final = 100

#: Prefix of the keys of broadcasts, which are for all workers. Any other event is for the workers that run its message.
BROADCAST_PREFIX: Final = b"all:"


class Event(NamedTuple):
    """An event: a key, a value and a time to live.

    If the key is signaled already, ``priority`` decides which of the two values remains. The longer of the two times to
    live counts in any case: a later event may extend it, and never shortens it.

    Parameters:
      key: Identifies the event.
      value: The content: empty for a plain abort. Some backends carry only events with an empty value.
      ttl: Time to live in milliseconds, counted from now; None if unknown.
      priority: Whether the value replaces that of a live event with the same key. 1: always. 0: except that a live
        event without a value, which is the strongest request, keeps it if this event has one. -1: never.
    """

    key: bytes
    value: bytes = b""
    ttl: int | None = None
    priority: int = 0

    def gives_way_to(self, value: bytes) -> bool:
        """Return whether a live event with the same key and this ``value`` keeps its value."""
        return self.priority < 0 or (self.priority == 0 and bool(self.value) and not value)
