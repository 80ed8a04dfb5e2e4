"""Events from the backend, read as requests and rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._protocol.request import AbortRequest
from .._protocol.rule import RULE, AbortRule
from ..backends.rate_limited_log import RateLimitedLog
from ..errors import InvalidRequest

if TYPE_CHECKING:
    import logging

    from .._protocol.event import Event

__all__ = ["EventReader"]


class EventReader:
    """Reads events that anyone may have signaled. Invalid events are ignored, with a limited number of log lines."""

    def __init__(self, logger: logging.Logger) -> None:
        self._limited_log = RateLimitedLog(logger)

    def request(self, key: bytes, value: bytes) -> AbortRequest | None:
        """Return the abort request that is the value of a message's event, or None."""
        try:
            return AbortRequest.decode(value)
        except InvalidRequest as error:
            self.warn_of_invalid(key, error)
            return None

    def rule(self, event: Event) -> AbortRule | None:
        """Return the rule that a broadcast event carries, or None."""
        if not event.key.startswith(RULE):
            return None
        try:
            return AbortRule.decode(event.key, event.value, event.ttl)
        except InvalidRequest as error:
            self.warn_of_invalid(event.key, error)
            return None

    def warn_of_invalid(self, key: bytes, error: Exception) -> None:
        self._limited_log.warning("Ignoring the event with key %.200r: %s.", key, error)
