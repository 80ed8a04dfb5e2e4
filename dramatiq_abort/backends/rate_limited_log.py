"""A limit on the number of warnings that untrusted input can cause."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging

__all__ = ["RateLimitedLog"]

#: Maximum number of warnings logged per period, and the period in seconds.
_MAX_WARNINGS: Final = 10
_PERIOD: Final = 60


class RateLimitedLog:
    """Logs up to 10 warnings per minute, and drops the others."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._left = 0
        self._period_ends = 0.0

    def warning(self, text: str, *arguments: object) -> None:
        now = time.monotonic()
        if now >= self._period_ends:
            self._left, self._period_ends = _MAX_WARNINGS, now + _PERIOD
        if self._left > 0:
            self._left -= 1
            self._logger.warning(text, *arguments)
            if not self._left:
                self._logger.warning("Further warnings of this kind are suppressed for %d seconds.", _PERIOD)
