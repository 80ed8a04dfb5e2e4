"""Record each abort as an OpenTelemetry span."""

import threading
import time

import dramatiq
from dramatiq.brokers.stub import StubBroker
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from dramatiq_abort import Abortable, Outcome, abort
from dramatiq_abort.backends import StubBackend

trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
tracer = trace.get_tracer(__name__)
traced = threading.Event()


def trace_abort(outcome: Outcome) -> None:
    """Record a span from the request to the end of the message, in nanoseconds as OpenTelemetry counts."""
    span = tracer.start_span(
        f"abort {outcome.actor}",
        start_time=outcome.requested * 1_000_000,
        attributes={
            "messaging.message.id": outcome.message_id,
            "messaging.destination.name": outcome.queue,
            "abort.outcome": outcome.state.value,
            "abort.reason": outcome.reason or "",
            "abort.latency_ms": outcome.latency or 0,
        },
    )
    span.end(outcome.ended * 1_000_000)
    traced.set()


broker = StubBroker()
broker.add_middleware(Abortable(backend=StubBackend(), on_outcome=trace_abort))
dramatiq.set_broker(broker)
started = threading.Event()


@dramatiq.actor
def resize_pictures() -> None:
    started.set()
    while True:
        time.sleep(0.001)


worker = dramatiq.Worker(broker)
worker.start()
message = resize_pictures.send()
started.wait()
abort(message.message_id, reason="wrong size")
traced.wait()
worker.stop()
