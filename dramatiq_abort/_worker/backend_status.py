"""Whether the event backend answers."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

__all__ = ["BackendStatus"]


class BackendStatus:
    """Logs once when the event backend stops answering, and once when it answers again. May be used by any thread."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._changing = Lock()
        self._is_down = False

    def report_down(self, error: Exception) -> None:
        with self._changing:
            was_down, self._is_down = self._is_down, True
        if not was_down:
            self._logger.error(
                "The event backend does not answer. Messages are processed as usual; aborts take effect when it is "
                "back. %s: %s",
                type(error).__name__,
                error,
            )
            self._logger.debug("Traceback of the event backend's failure:", exc_info=error)

    def report_up(self) -> None:
        with self._changing:
            was_down, self._is_down = self._is_down, False
        if was_down:
            self._logger.info("The event backend answers again.")
