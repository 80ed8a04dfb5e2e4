"""Programs written for dramatiq-abort 1.2 run unchanged."""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Interrupt
from support import PATIENCE, result_of, run_forever, stub_broker, wait_for_request, wait_until

import dramatiq_abort
from dramatiq_abort import (
    Abort,
    Abortable,
    BackendError,
    EventBackend,
    abort,
    abort_manager,
    abort_requested,
    backends,
    middleware,
)
from dramatiq_abort.backends import base
from dramatiq_abort.backends.redis import RedisBackend
from dramatiq_abort.backends.stub import StubBackend
from dramatiq_abort.middleware import AbortMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from dramatiq.results import Results

pytestmark = pytest.mark.pure_core


@pytest.fixture
def serve() -> Iterator[Callable[[StubBroker], None]]:
    """Return a function that starts a worker on the current default broker; it is stopped after the test."""
    workers = []

    def serve(broker: StubBroker) -> None:
        dramatiq.set_broker(broker)
        workers.append(dramatiq.Worker(broker, worker_timeout=10, worker_threads=4))
        workers[-1].start()

    yield serve
    for worker in workers:
        worker.stop(timeout=5_000)
        worker.broker.close()
    dramatiq.set_broker(None)  # type: ignore[arg-type]


def test_the_names_and_their_order_are_the_same() -> None:
    """Public names and the order of positional parameters are those of 1.2."""
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
    assert abort_manager.Abort is Abort
    assert (middleware.Abortable, middleware.abort, middleware.abort_requested) == (Abortable, abort, abort_requested)
    assert base.EventBackend is EventBackend
    assert (backends.RedisBackend, backends.StubBackend) == (RedisBackend, StubBackend)
    assert inspect.isabstract(EventBackend)
    assert EventBackend.__abstractmethods__ == {"notify", "poll", "wait_many"}


def test_the_middleware_has_the_methods_that_it_had() -> None:
    """The middleware has the methods of 1.2, with the same parameters in the same order."""
    parameters = inspect.signature(Abortable.abort).parameters
    assert {name: parameter.default for name, parameter in parameters.items() if name != "self"} == {
        "message_id": inspect.Parameter.empty,
        "abort_ttl": None,
        "mode": AbortMode.ABORT,
        "abort_timeout": 0,
    }
    assert list(parameters) == ["self", "message_id", "abort_ttl", "mode", "abort_timeout"]
    assert list(inspect.signature(Abortable.is_abortable).parameters) == ["self", "actor", "message"]
    assert list(inspect.signature(Abortable.get_abort_request).parameters) == ["self", "message_id"]


@pytest.mark.parametrize("of_middleware", [True, False])
@pytest.mark.parametrize("of_actor", [None, True, False])
@pytest.mark.parametrize("of_message", [None, True, False])
def test_a_messages_option_goes_before_its_actors_and_that_before_the_middlewares(
    of_middleware: bool, of_actor: bool | None, of_message: bool | None
) -> None:
    """A message's option overrides the actor's, and that the middleware's; None means that it is not set."""
    abortable = Abortable(backend=StubBackend(), abortable=of_middleware)
    broker = stub_broker(abortable)
    actor = dramatiq.actor(lambda: None, actor_name="task", broker=broker, abortable=of_actor)
    message = actor.message_with_options(abortable=of_message)

    said = [option for option in (of_message, of_actor, of_middleware) if option is not None]
    assert abortable.is_abortable(actor, message) is said[0]
    if of_message is None:
        del message.options["abortable"]
        assert abortable.is_abortable(actor, message) is said[0]


class Choosy(Abortable):
    """Decides by the actor's name and an argument of the message."""

    def is_abortable(self, actor: Any, message: Any) -> bool:
        return bool(actor.actor_name == "task" and message.args[0])


def test_a_subclass_decides_which_messages_can_be_aborted(
    core: ModuleType, results: Results, serve: Callable[[StubBroker], None]
) -> None:
    """A subclass's method decides per message in the worker, whatever the options."""
    abortable = Choosy(backend=StubBackend())
    broker = stub_broker(results, abortable)

    @dramatiq.actor(actor_name="task", broker=broker, store_results=True)
    def task(is_abortable: bool) -> str:
        return "ran"

    messages = [task.send(False), task.send(True)]
    for message in messages:
        abortable.abort(message.message_id)
    serve(broker)

    assert [result_of(message) for message in messages] == ["ran", None]


def test_the_middleware_aborts_by_itself(
    core: ModuleType, results: Results, serve: Callable[[StubBroker], None]
) -> None:
    """The middleware's ``abort()`` accepts all parameters, and its request can be read back."""
    abortable = Abortable(backend=StubBackend())
    broker = stub_broker(results, abortable)
    started = threading.Semaphore(0)
    told: list[float | None] = []

    @dramatiq.actor(broker=broker, store_results=True)
    def task() -> None:
        started.release()
        run_forever()

    @dramatiq.actor(broker=broker, store_results=True)
    def finishes_in_time() -> str:
        started.release()
        wait_for_request()
        told.append(abortable.get_abort_request())
        return "in time"

    cancelled = task.send()
    abortable.abort(cancelled.message_id, 60_000, AbortMode.CANCEL)
    serve(broker)
    message, other = task.send(), finishes_in_time.send()
    for _ in range(2):
        assert started.acquire(timeout=PATIENCE)
    assert abortable.get_abort_request(message.message_id) is None
    assert abortable.get_abort_request() is None
    abortable.abort(message.message_id, 60_000, AbortMode.CANCEL)
    abortable.abort(other.message_id, None, AbortMode.ABORT, 30_000)
    assert result_of(other) == "in time"
    abortable.abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    assert told[0] is not None
    assert 0 < told[0] <= 30_000
    assert result_of(cancelled) is None
    assert abortable.get_abort_request(message.message_id) == 0


@pytest.mark.parametrize("method", ["abort", "get_abort_request"])
def test_the_middlewares_methods_fail_as_the_functions_do(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The methods of the middleware raise the same error as the functions, whatever the backend raises."""
    event_backend = StubBackend()
    for name in ("signal", "read"):
        monkeypatch.setattr(event_backend, name, lambda *_: 1 / 0)

    with pytest.raises(BackendError, match=r"message id.*: ZeroDivisionError"):
        getattr(Abortable(backend=event_backend), method)("id")
    for wrong, error in [("", ValueError), (5, TypeError)]:
        with pytest.raises(error):
            getattr(Abortable(backend=event_backend), method)(wrong)


def test_a_program_runs_unchanged(core: ModuleType, redis_url: str) -> None:
    """A 1.2 program with a backend from a URL and positional arguments runs unchanged."""
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
