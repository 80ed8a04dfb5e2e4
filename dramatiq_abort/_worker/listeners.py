"""Who hears in a worker process what became of a message: the log, the metrics, and whoever wants to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from .._protocol.outcome import Outcome

__all__ = ["OutcomeListeners"]


class OutcomeListeners:
    """Called with each outcome.

    What the listeners raise goes to the log.
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
        words = outcome.message_id, outcome.actor, outcome.state.value
        if outcome.exception is not None:
            text = "Message %s of actor %s was to be aborted, and is over: %s with %s."
            self._logger.info(text, *words, outcome.exception, extra=fields)
        elif outcome.latency is not None:
            text = "Message %s of actor %s was to be aborted, and is over: %s after %.1f ms."
            self._logger.info(text, *words, outcome.latency, extra=fields)
        else:
            self._logger.info("Message %s of actor %s was to be aborted, and is over: %s.", *words, extra=fields)
        for listener in self.listeners:
            try:
                listener(outcome)
            except Exception:
                text = "The outcome of message %s was not taken by %r."
                self._logger.exception(text, outcome.message_id, listener, extra=fields)
