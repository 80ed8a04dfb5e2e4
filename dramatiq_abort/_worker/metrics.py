"""Metrics for Prometheus, where dramatiq's own middleware for it is in use."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dramatiq import Broker

    from .._protocol.outcome import Outcome

__all__ = ["Metrics", "is_wanted"]

#: The upper bounds of the histogram's buckets, in ms.
_BUCKETS: Final = (0.5, 1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000, 60_000, float("inf"))


def is_wanted(broker: Broker) -> bool:
    """Return whether the broker has dramatiq's ``Prometheus``, and it has started, as in dramatiq's own processes.

    Otherwise no server would show the metrics; and importing the library before dramatiq does would make it write
    elsewhere.
    """
    module = sys.modules.get("dramatiq.middleware.prometheus")
    if module is None or "prometheus_client" not in sys.modules:
        return False
    return any(isinstance(each, module.Prometheus) for each in broker.middleware)


class Metrics:
    """Counts the outcomes of abort requests, and measures the latency of aborts.

    The metrics have the same labels as dramatiq's, and the same server shows them: it reads what all processes have
    written (dramatiq/middleware/prometheus.py), so they may be in a registry of their own.
    """

    def __init__(self) -> None:
        import prometheus_client  # an optional dependency

        registry = prometheus_client.CollectorRegistry()
        self._outcomes = prometheus_client.Counter(
            "dramatiq_aborts_total",
            "The total number of messages with an abort request, by outcome.",
            ["queue_name", "actor_name", "outcome"],
            registry=registry,
        )
        self._latencies = prometheus_client.Histogram(
            "dramatiq_abort_latency_milliseconds",
            "The time from when a worker received an abort request until the message ended.",
            ["queue_name", "actor_name"],
            buckets=_BUCKETS,
            registry=registry,
        )

    def observe(self, outcome: Outcome) -> None:
        labels = outcome.queue, outcome.actor
        self._outcomes.labels(*labels, outcome.state.value).inc()
        if outcome.latency is not None:
            self._latencies.labels(*labels).observe(outcome.latency)
