"""Counts for Prometheus, where dramatiq's own middleware for it is in use."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dramatiq import Broker

    from .._protocol.outcome import Outcome

__all__ = ["Metrics", "is_wanted"]

#: The upper ends of the histogram's buckets, in ms.
_BUCKETS: Final = (0.5, 1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000, 60_000, float("inf"))


def is_wanted(broker: Broker) -> bool:
    """Say whether the broker has dramatiq's Prometheus, and that has begun, as it does in dramatiq's own processes.

    Else nobody would show what is counted; and to import the library before that would have it write elsewhere.
    """
    module = sys.modules.get("dramatiq.middleware.prometheus")
    if module is None or "prometheus_client" not in sys.modules:
        return False
    return any(isinstance(each, module.Prometheus) for each in broker.middleware)


class Metrics:
    """What became of the messages that somebody has asked to abort, and how long that took.

    Beside dramatiq's own metrics, with the names of the same labels, and shown by the same server: that one reads what
    all processes have written (dramatiq/middleware/prometheus.py), so it does not matter that this registry is another.
    """

    def __init__(self) -> None:
        import prometheus_client  # not everybody has it

        registry = prometheus_client.CollectorRegistry()
        self._outcomes = prometheus_client.Counter(
            "dramatiq_aborts_total",
            "The total number of messages that were to be aborted, by what became of them.",
            ["queue_name", "actor_name", "outcome"],
            registry=registry,
        )
        self._latencies = prometheus_client.Histogram(
            "dramatiq_abort_latency_milliseconds",
            "The time from when a worker heard that a message was to be aborted to its end.",
            ["queue_name", "actor_name"],
            buckets=_BUCKETS,
            registry=registry,
        )

    def observe(self, outcome: Outcome) -> None:
        labels = outcome.queue, outcome.actor
        self._outcomes.labels(*labels, outcome.state.value).inc()
        if outcome.latency is not None:
            self._latencies.labels(*labels).observe(outcome.latency)
