"""The listeners of a worker process to outcomes: the log, the metrics, and ``Abortable(on_outcome=...)``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from .._protocol.outcome import Outcome

__all__ = ["OutcomeListeners"]


class OutcomeListeners:
    """Logs each outcome and passes it on to ``listeners``.

    Exceptions that a listener raises are logged.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self.listeners: list[Callable[[Outcome], object]] = []

    def __call__(self, outcome: Outcome) -> None:
        fields = {
            "message_id": outcome.message_id,
            "actor": outcome.actor,
            "reason": outcome.reason,
            "by": outcome.by,
            "outcome": outcome.state.value,
            "latency_ms": outcome.latency,
        }
        args = outcome.message_id, outcome.actor, outcome.state.value
        if outcome.exception is not None:
            text = "Message %s of actor %s had an abort request. Outcome: %s with %s."
            self._logger.info(text, *args, outcome.exception, extra=fields)
        elif outcome.latency is not None:
            text = "Message %s of actor %s had an abort request. Outcome: %s after %.1f ms."
            self._logger.info(text, *args, outcome.latency, extra=fields)
        else:
            self._logger.info("Message %s of actor %s had an abort request. Outcome: %s.", *args, extra=fields)
        for listener in self.listeners:
            try:
                listener(outcome)
            except Exception:
                text = "Unexpected failure in outcome listener %r for message %s of actor %s."
                self._logger.exception(text, listener, outcome.message_id, outcome.actor, extra=fields)
