"""A program that was written for dramatiq-abort 1.2 runs as it is."""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING

import dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Interrupt
from support import PATIENCE, run_forever, wait_for_request, wait_until

import dramatiq_abort
from dramatiq_abort import Abort, Abortable, EventBackend, abort, abort_requested, backends
from dramatiq_abort.backends.redis import RedisBackend
from dramatiq_abort.backends.stub import StubBackend
from dramatiq_abort.middleware import AbortMode

if TYPE_CHECKING:
    from types import ModuleType


def test_the_names_and_their_order_are_the_same() -> None:
    """Positional arguments included."""
    assert list(inspect.signature(abort).parameters)[:5] == [
        "message_id",
        "middleware",
        "abort_ttl",
        "mode",
        "abort_timeout",
    ]
    assert inspect.signature(abort).parameters["abort_timeout"].default == 0
    assert inspect.signature(abort).parameters["mode"].default is AbortMode.ABORT
    assert list(inspect.signature(abort_requested).parameters)[:2] == ["message_id", "middleware"]
    parameters = inspect.signature(Abortable).parameters
    assert {name: parameters[name].default for name in ("abortable", "abort_ttl")} == {
        "abortable": True,
        "abort_ttl": 90_000,
    }
    assert issubclass(Abort, Interrupt)
    assert (AbortMode.ABORT.value, AbortMode.CANCEL.value) == ("abort", "cancel")
    assert dramatiq_abort.AbortMode is AbortMode
    assert (backends.RedisBackend, backends.StubBackend) == (RedisBackend, StubBackend)
    assert inspect.isabstract(EventBackend)
    assert EventBackend.__abstractmethods__ == {"notify", "poll", "wait_many"}


def test_a_program_runs_unchanged(core: ModuleType, redis_url: str) -> None:
    """With its backend from a URL, the middleware, and every call with positional arguments."""
    event_backend = backends.RedisBackend.from_url(redis_url)
    abortable = Abortable(backend=event_backend, abortable=False, abort_ttl=60_000)
    broker = StubBroker()
    broker.add_middleware(abortable)
    dramatiq.set_broker(broker)
    started = threading.Semaphore(0)
    order: list[str] = []

    @dramatiq.actor(abortable=True, max_retries=0)
    def count_words(url: str) -> None:
        try:
            started.release()
            run_forever()
        except Abort:
            order.append(f"aborted {url}")
            raise

    @dramatiq.actor(abortable=True, max_retries=0)
    def clean_up_in_time(url: str) -> None:
        started.release()
        wait_for_request()
        order.append(f"in time {url}")

    @dramatiq.actor
    def not_abortable(url: str) -> None:
        order.append(f"ran {url}")

    worker = dramatiq.Worker(broker, worker_timeout=50)
    message = count_words.send("a")
    waiting = count_words.send_with_options(args=("b",), delay=200)
    abort(waiting.message_id, abortable, 5_000, AbortMode.CANCEL)
    untouched = not_abortable.send("c")
    abort(untouched.message_id, abortable, 5_000)
    worker.start()
    assert started.acquire(timeout=PATIENCE)
    abort(message.message_id, None, None, AbortMode.ABORT, 0)
    wait_until(lambda: "aborted a" in order)
    graceful = clean_up_in_time.send("d")
    assert started.acquire(timeout=PATIENCE)
    abort(graceful.message_id, abortable, 5_000, AbortMode.ABORT, 30_000)
    broker.join("default", timeout=PATIENCE * 1000, fail_fast=False)
    worker.join()
    worker.stop()
    event_backend.client.close()

    assert sorted(order) == ["aborted a", "in time d", "ran c"]
    assert abort_requested("nobody's") is None
