"""Warnings of what anybody can cause, as often as he likes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging

__all__ = ["RateLimitedLog"]

#: How many are written down in how many seconds.
_MOST: Final = 10
_PERIOD: Final = 60


class RateLimitedLog:
    """Writes some of many warnings into a log."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._left = 0
        self._period_ends = 0.0

    def warning(self, text: str, *arguments: object) -> None:
        now = time.monotonic()
        if now >= self._period_ends:
            self._left, self._period_ends = _MOST, now + _PERIOD
        if self._left > 0:
            self._left -= 1
            self._logger.warning(text, *arguments)
            if not self._left:
                self._logger.warning("More of this kind is left out for %d seconds.", _PERIOD)
