"""Invalid calls raise a clear error at once, and leave nothing half done."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import MiddlewareError
from support import PATIENCE, free_port, wait_until

import dramatiq_abort
from dramatiq_abort import (
    Abortable,
    AbortError,
    AbortMode,
    BackendError,
    ConfigurationError,
    UnsupportedByBackend,
    abort,
    abort_requested,
)
from dramatiq_abort._protocol.request import key_of
from dramatiq_abort.backends import RedisBackend, StubBackend

if TYPE_CHECKING:
    from collections.abc import Callable


class Recording(StubBackend):
    """Records the signaled events."""

    def __init__(self) -> None:
        super().__init__()
        self.signaled: list[Any] = []

    def signal(self, events: Any) -> None:
        self.signaled += events


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda m: abort(None, m), TypeError, "message id"),
        (lambda m: abort("", m), ValueError, "message id"),
        (lambda m: abort("id", m, -1), ValueError, "abort_ttl must be from 1"),
        (lambda m: abort("id", m, 0), ValueError, "abort_ttl must be from 1"),
        (lambda m: abort("id", m, 1.5), TypeError, "abort_ttl must be an int \\(milliseconds\\)"),
        (lambda m: abort("id", m, True), TypeError, "abort_ttl must be an int"),
        (lambda m: abort("id", m, 10**20), ValueError, "abort_ttl must be from 1 to"),
        (lambda m: abort("id", m, abort_timeout=-1), ValueError, "abort_timeout must be from 0"),
        (lambda m: abort("id", m, abort_timeout="5"), TypeError, "abort_timeout must be an int"),
        (lambda m: abort("id", m, repeat_every=0), ValueError, "repeat_every must be from 1"),
        (lambda m: abort("id", m, mode="cancel"), TypeError, "AbortMode.CANCEL"),
        (lambda _: abort("id", "middleware"), TypeError, "middleware must be the broker's Abortable"),
        (lambda m: abort_requested(7, m), TypeError, "message id"),
        (lambda m: abort_requested("", m), ValueError, "message id"),
    ],
)
def test_a_wrong_parameter_is_named(call: Callable[[Any], None], error: type[Exception], match: str) -> None:
    """An error names the wrong parameter and what to pass instead, and no request is made."""
    backend = Recording()

    with pytest.raises(error, match=match):
        call(Abortable(backend=backend))

    assert backend.signaled == []


@pytest.mark.parametrize(
    ("parameters", "error", "match"),
    [
        ({"backend": "redis://"}, TypeError, "EventBackend"),
        ({"backend": StubBackend}, TypeError, "EventBackend"),
        ({"abort_ttl": 0}, ValueError, "abort_ttl must be from 1"),
        ({"abort_ttl": 1e3}, TypeError, "abort_ttl must be an int"),
        ({"repeat_every": 0}, ValueError, "repeat_every must be from 1"),
        ({"warn_after": "10"}, TypeError, "warn_after must be an int"),
        ({"protected_modules": "psycopg_pool"}, TypeError, "list of module names"),
        ({"protected_modules": [b"psycopg_pool"]}, TypeError, "list of module names"),
    ],
)
def test_a_wrong_middleware_is_not_made(parameters: dict[str, Any], error: type[Exception], match: str) -> None:
    """Wrong parameters of ``Abortable`` raise at once, not at the first abort."""
    with pytest.raises(error, match=match):
        Abortable(**parameters)


def test_an_abort_needs_a_middleware(monkeypatch: pytest.MonkeyPatch) -> None:
    """``abort()`` without a middleware raises the RuntimeError that programs for 1.2 expect."""
    dramatiq.set_broker(StubBroker(middleware=[]))

    with pytest.raises(RuntimeError, match=r"broker.add_middleware\(Abortable\(\)\)") as caught:
        abort("id")
    with pytest.raises(ConfigurationError):
        abort_requested("id")

    assert isinstance(caught.value, AbortError)
    assert abort_requested() is None


def test_two_of_it_are_an_error() -> None:
    """A second ``Abortable`` raises when it is added after an actor, or when an actor is declared after it."""
    broker = StubBroker(middleware=[Abortable(), Abortable()])
    with pytest.raises(ConfigurationError, match="two Abortable"):
        dramatiq.actor(broker=broker)(print)

    broker = StubBroker(middleware=[Abortable()])
    dramatiq.actor(broker=broker)(print)
    with pytest.raises(ConfigurationError, match="two Abortable"):
        broker.add_middleware(Abortable())
    dramatiq.set_broker(broker)
    with pytest.raises(ConfigurationError, match="two Abortable"):
        abort("id")


def test_a_broker_that_it_does_not_know_needs_a_backend() -> None:
    """On an unknown broker, declaring an actor raises an error that says what to pass."""

    class OtherBroker(dramatiq.Broker):
        def declare_queue(self, queue_name: str) -> None: ...

    broker = OtherBroker(middleware=[Abortable()])
    broker.queues = {}

    with pytest.raises(MiddlewareError, match=r"OtherBroker.*RedisBackend.from_url"):
        dramatiq.actor(broker=broker)(print)


def test_a_middleware_that_is_on_no_broker_has_no_backend() -> None:
    """An ``Abortable`` on no broker has no event backend unless it was given one."""
    with pytest.raises(ConfigurationError, match="add it to a broker first"):
        abort("id", Abortable())


def test_the_backend_goes_with_the_broker(redis_url: str) -> None:
    """The default backend uses a RedisBroker's client and namespace; on a StubBroker it is a StubBackend."""
    from dramatiq.brokers.redis import RedisBroker

    on_redis, on_stub = Abortable(), Abortable()
    broker = RedisBroker(url=redis_url, namespace="mine", middleware=[on_redis])
    dramatiq.actor(broker=broker)(print)
    dramatiq.actor(broker=StubBroker(middleware=[on_stub]))(print)

    assert isinstance(on_redis.backend, RedisBackend)
    assert on_redis.backend.client is broker.client
    assert on_redis.backend._keys[0] == "{mine-abort}:index"
    assert isinstance(on_stub.backend, StubBackend)
    broker.close()
    broker.client.close()


def test_a_redis_that_is_down_is_an_error_in_a_client() -> None:
    """In a client, a Redis that is down raises BackendError, with redis-py's error as its cause."""
    backend = RedisBackend.from_url(f"redis://127.0.0.1:{free_port()}", retry=None)
    middleware = Abortable(backend=backend)

    with pytest.raises(BackendError, match="message id was not aborted: ConnectionError") as caught:
        abort("id", middleware)
    with pytest.raises(BackendError, match="nothing is known of message id"):
        abort_requested("id", middleware)

    assert caught.value.__cause__ is not None
    assert isinstance(caught.value, AbortError)


def test_a_redis_that_is_down_is_one_log_line_in_a_worker(caplog: pytest.LogCaptureFixture) -> None:
    """In a worker, a Redis that is down costs one log line, and messages run."""
    caplog.set_level(logging.INFO, "dramatiq_abort")
    backend = RedisBackend.from_url(f"redis://127.0.0.1:{free_port()}", retry=None)
    broker = StubBroker(middleware=[Abortable(backend=backend)])
    calls: list[int] = []

    @dramatiq.actor(broker=broker)
    def task(number: int) -> None:
        calls.append(number)

    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=2)
    worker.start()
    for number in range(10):
        task.send(number)
    broker.join("default", timeout=PATIENCE * 1000)
    wait_until(lambda: "does not answer" in caplog.text)
    worker.stop()

    assert sorted(calls) == list(range(10))
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


def test_a_backend_of_three_methods_says_what_it_cannot_do() -> None:
    """A backend with only the three methods supports plain aborts, and refuses everything else."""
    from test_own_backends import ThreeMethods

    backend = ThreeMethods()
    middleware = Abortable(backend=backend)

    abort("plain", middleware)
    with pytest.raises(UnsupportedByBackend, match="supports only a plain abort"):
        abort("other", middleware, mode=AbortMode.CANCEL)
    with pytest.raises(UnsupportedByBackend, match="without mode, abort_timeout, repeat_every"):
        abort("other", middleware, abort_timeout=1_000)

    with pytest.raises(UnsupportedByBackend, match="because the query might consume the signal"):
        abort_requested("plain", middleware)

    assert backend.poll(key_of("plain"))
    assert not backend.poll(key_of("other"))


def test_the_public_names_are_all_there() -> None:
    """``__all__`` lists exactly the public names."""
    public = {
        name
        for name, value in vars(dramatiq_abort).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("dramatiq_abort")
    }

    assert public <= set(dramatiq_abort.__all__)
    assert all(hasattr(dramatiq_abort, name) for name in dramatiq_abort.__all__)
