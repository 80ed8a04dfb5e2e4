"""One Abortable on several brokers, and brokers that come and go, as in application factories."""

from __future__ import annotations

import asyncio
import gc
import logging
import queue
import signal
import sys
import threading
import weakref
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO, Middleware
from support import GREENLETS, PATIENCE, result_of, run_forever, runtime_of, stub_broker, wait_until

from dramatiq_abort import (
    Abort,
    Abortable,
    AsyncAbort,
    ConfigurationError,
    OutcomeState,
    abort,
    abort_all,
    abort_requested,
    restore,
    running,
    wait_for_outcome,
)
from dramatiq_abort._core import blocking_calls
from dramatiq_abort._core.current import current
from dramatiq_abort._worker.unraisable import UnraisableAborts
from dramatiq_abort.backends import RedisBackend, StubBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    import redis
    from dramatiq import Broker
    from dramatiq.brokers.stub import StubBroker
    from dramatiq.results import Results

    from dramatiq_abort import EventBackend

pytestmark = pytest.mark.usefixtures("core")

LONG = PATIENCE * 1000


@pytest.fixture
def make_broker(results: Results) -> Iterator[Callable[[Abortable], StubBroker]]:
    """Return a factory of brokers with a middleware and shared results. The newest is the default broker."""

    def make(abortable: Abortable) -> StubBroker:
        broker = stub_broker()
        broker.add_middleware(results)
        broker.add_middleware(abortable)
        dramatiq.set_broker(broker)
        return broker

    yield make
    dramatiq.set_broker(None)  # type: ignore[arg-type]


@contextmanager
def working(*brokers: Broker) -> Iterator[list[dramatiq.Worker]]:
    """Run a worker for each broker."""
    workers = [dramatiq.Worker(broker, worker_timeout=10, worker_threads=2) for broker in brokers]
    for worker in workers:
        worker.start()
    try:
        yield workers
    finally:
        for worker in workers:
            worker.stop(timeout=5_000)


class Task:
    """An actor that runs until it is aborted."""

    def __init__(self, broker: Broker, **options: Any) -> None:
        self._begun = threading.Semaphore(0)
        self.actor = dramatiq.actor(self._run, actor_name="task", broker=broker, **options)

    def _run(self) -> None:
        self._begun.release()
        run_forever()

    def start(self) -> Any:
        """Send a message, and return it once it is running."""
        message = self.actor.send()
        assert self._begun.acquire(timeout=PATIENCE)
        return message


def test_each_broker_is_sent_its_own_on_abort(make_broker: Any, backend: EventBackend) -> None:
    """Brokers with actors of the same name each receive the ``on_abort`` messages of their own actor."""
    abortable = Abortable(backend=backend)
    told: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def tidy_up(name: str, message: dict[str, Any], _: dict[str, Any]) -> None:
        told.put((name, message["message_id"]))

    brokers, tasks = [], []
    for name in ("first", "second"):
        broker = make_broker(abortable)
        dramatiq.actor(partial(tidy_up, name), actor_name=name, broker=broker, abortable=False)
        brokers.append(broker)
        tasks.append(Task(broker, on_abort=name))
    with working(*brokers):
        messages = [task.start() for task in tasks]
        for message in messages:
            abort(message.message_id, abortable)
        heard = {told.get(timeout=PATIENCE), told.get(timeout=PATIENCE)}

    assert heard == {("first", messages[0].message_id), ("second", messages[1].message_id)}


def test_each_broker_has_its_own_options(make_broker: Any, backend: EventBackend) -> None:
    """Actors of the same name on two brokers keep their own ``abortable`` and ``abort_tags``."""
    abortable = Abortable(backend=backend)
    brokers = [make_broker(abortable) for _ in range(3)]
    go_on = threading.Event()

    def wait() -> str:
        assert go_on.wait(PATIENCE)
        return "ran"

    wait_without = dramatiq.actor(wait, actor_name="task", broker=brokers[0], abortable=False, abort_tags=["a"])
    tasks = [Task(brokers[1], abort_tags=["a"]), Task(brokers[2], abort_tags=["b"])]
    with working(*brokers):
        wait_until(backend.reply_store.workers, "the worker's entry")  # type: ignore[union-attr]
        untouched = wait_without.send()
        tagged, other = (task.start() for task in tasks)
        abort_all(abortable, tag="a")
        assert result_of(tagged)[0] == "Abort"
        assert [each.message_id for each in running(abortable, timeout=LONG).messages] == [other.message_id]
        abort_all(abortable, tag="b")
        assert result_of(other)[0] == "Abort"
        go_on.set()

        assert result_of(untouched) == "ran"


@pytest.mark.skipif(GREENLETS, reason="an event loop is a thread")
def test_one_may_have_a_coroutine_where_another_has_a_function(make_broker: Any, backend: EventBackend) -> None:
    """Of two actors of the same name on two brokers, one may be async."""
    abortable = Abortable(backend=backend)
    brokers = [make_broker(abortable), make_broker(abortable)]
    brokers[1].add_middleware(AsyncIO())
    started = threading.Event()
    caught: list[type[BaseException]] = []

    @dramatiq.actor(actor_name="task", broker=brokers[1])
    async def coroutine() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except Abort as error:
            caught.append(type(error))
            raise

    task = Task(brokers[0])
    with working(*brokers):
        messages = [task.start(), coroutine.send()]
        assert started.wait(PATIENCE)
        for message in messages:
            abort(message.message_id, abortable)

        assert [result_of(message)[0] for message in messages] == ["Abort", "Abort"]
    assert caught == [AsyncAbort]


def test_a_worker_that_stops_leaves_the_others_theirs(make_broker: Any, backend: EventBackend) -> None:
    """A worker that stops, twice or without a start, does not affect others on its broker or another one."""
    abortable = Abortable(backend=backend)
    brokers = [make_broker(abortable), make_broker(abortable)]
    task = Task(brokers[0])
    with working(brokers[0]), working(brokers[0], brokers[1]) as others:
        for worker in (*others, *others, dramatiq.Worker(brokers[0]), dramatiq.Worker(brokers[1])):
            worker.stop()
        message = task.start()
        abort(message.message_id, abortable)

        assert result_of(message)[0] == "Abort"
        assert wait_for_outcome(message.message_id, abortable, timeout=LONG).state is OutcomeState.ABORTED
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dramatiq-abort")]


def test_brokers_with_one_backend_lose_nothing_to_each_other(make_broker: Any, backend: EventBackend) -> None:
    """Brokers that share a backend object, which hands each signal out once, both receive all events."""
    abortable = Abortable(backend=backend)
    brokers = [make_broker(abortable) for _ in range(3)]
    tasks = [Task(broker) for broker in brokers]
    with working(*brokers):
        wait_until(backend.reply_store.workers, "the worker's entry")  # type: ignore[union-attr]
        for _ in range(5):
            messages = [task.start() for task in tasks]
            ids = {message.message_id for message in messages}
            assert {each.message_id for each in running(abortable, timeout=LONG).messages} == ids
            rule = abort_all(abortable, actor="task")
            assert [result_of(message)[0] for message in messages] == ["Abort"] * 3
            restore(rule, abortable)
            messages = [task.start() for task in tasks]
            abort(messages, abortable)
            assert [result_of(message)[0] for message in messages] == ["Abort"] * 3


def test_each_broker_has_the_backend_that_goes_with_it(
    make_broker: Any, redis_url: str, redis_client: redis.Redis, namespace: str, results: Results
) -> None:
    """An application that is created on a StubBroker and then on a RedisBroker uses the right backend each time."""
    abortable = Abortable()
    first = make_broker(abortable)
    first_task = Task(first)
    broker = RedisBroker(url=redis_url, namespace=namespace)
    broker.add_middleware(results)
    broker.add_middleware(abortable)
    dramatiq.set_broker(broker)
    task = Task(broker, max_retries=0)
    elsewhere = Abortable(backend=RedisBackend(client=redis_client, namespace=f"{namespace}-abort"))
    with working(first, broker):
        for asked_of in (None, elsewhere):
            message = task.start()
            abort(message.message_id, asked_of)
            assert result_of(message)[0] == "Abort"
            assert abort_requested(message.message_id) == 0
        message = first_task.start()
        dramatiq.set_broker(first)
        abort(message.message_id)
        assert result_of(message)[0] == "Abort"
    broker.client.close()


@pytest.mark.slow
def test_a_middleware_on_brokers_with_different_backends_stands_for_none_of_them(make_broker: Any) -> None:
    """``abort()`` refuses a middleware on brokers with different backends; garbage-collected brokers do not count."""
    abortable = Abortable()
    brokers = [make_broker(abortable), make_broker(abortable)]
    tasks = [Task(broker) for broker in brokers]
    for call in (abort, restore, abort_requested, wait_for_outcome):
        with pytest.raises(ConfigurationError, match="on 2 brokers, each with an event backend of its own"):
            call("x", abortable)
    abort("x")
    assert abort_requested("x") == 0
    dramatiq.set_broker(brokers[0])
    assert abort_requested("x") is None
    left = weakref.ref(brokers[1])
    del brokers[1:], tasks[1:]
    abort("y", abortable)

    assert left() is None
    assert abort_requested("y", abortable) == abort_requested("y") == 0


@pytest.mark.skipif(sys.implementation.name == "pypy", reason="PyPy collects what it likes when it likes")
def test_a_broker_is_not_kept_alive(make_broker: Any, request: pytest.FixtureRequest) -> None:
    """A broker is garbage-collected even if its actors call each other, with and without a worker."""
    logging.disable()  # pytest keeps log records with their tracebacks
    request.addfinalizer(partial(logging.disable, logging.NOTSET))
    abortable = Abortable(backend=StubBackend())

    def application(*, works: bool) -> weakref.ref[Broker]:
        broker = make_broker(abortable)

        @dramatiq.actor(broker=broker)
        def first() -> str:
            return "done"

        @dramatiq.actor(broker=broker)
        def second() -> None:
            first.send()

        if works:
            with working(broker):
                assert result_of(first.send()) == "done"
        return weakref.ref(broker)

    brokers = [application(works=works) for works in (True, False)]
    dramatiq.set_broker(None)  # type: ignore[arg-type]
    dramatiq.worker.has_results_middleware.cache_clear()
    wait_until(lambda: gc.collect() >= 0 and all(broker() is None for broker in brokers))

    assert list(abortable._bindings) == []


def test_the_hooks_of_one_broker_are_called_where_they_lead_to(make_broker: Any, backend: EventBackend) -> None:
    """With one broker, hooks are called directly, which saves time; with two, the message decides."""
    abortable = Abortable(backend=backend)
    task = Task(make_broker(abortable))
    with working(task.actor.broker):
        hooks = runtime_of(abortable).hooks
        assert abortable.before_process_message == hooks.before_process_message
        assert abortable.after_process_message == hooks.after_process_message
        before = task.start()
        other = Task(make_broker(abortable))
        assert not {"before_process_message", "after_process_message"} & vars(abortable).keys()
        with working(other.actor.broker):
            messages = [before, task.start(), other.start()]
            for message in messages:
                abort(message.message_id, abortable)

            assert [result_of(message)[0] for message in messages] == ["Abort"] * 3


def test_a_hook_that_the_program_has_replaced_stays(make_broker: Any) -> None:
    """A hook that the program has replaced is kept, with one broker and with two."""
    abortable = Abortable(backend=StubBackend())
    called: list[str] = []

    def before_process_message(broker: Broker, message: Any) -> None:
        called.append(message.message_id)
        Abortable.before_process_message(abortable, broker, message)

    abortable.before_process_message = before_process_message  # type: ignore[method-assign]
    tasks = [Task(make_broker(abortable))]
    with working(tasks[0].actor.broker):
        tasks.append(Task(make_broker(abortable)))
        with working(tasks[1].actor.broker):
            messages = [task.start() for task in tasks]
            abort(messages, abortable)
            assert [result_of(message)[0] for message in messages] == ["Abort"] * 2

    assert called == [message.message_id for message in messages]


@pytest.mark.parametrize("wanted", [True, False])
def test_an_option_may_be_set_after_the_declaration(make_broker: Any, wanted: bool) -> None:
    """An option that another middleware sets after the declaration takes effect."""

    class Sets(Middleware):
        def after_declare_actor(self, broker: Broker, actor: Any) -> None:
            broker.actors["task"].options |= {"abortable": wanted, "abort_tags": ["set"]}

    abortable = Abortable(abortable=not wanted)
    broker = make_broker(abortable)

    @dramatiq.actor
    def task() -> str:
        return "ran"

    broker.add_middleware(Sets())
    message = task.message()
    abort_all(tag="set")
    broker.enqueue(message)
    with working(broker):
        assert result_of(message) == (None if wanted else "ran")


@pytest.mark.skipif(not hasattr(signal, "SIGURG"), reason="there is no such signal here")
def test_the_signal_is_handled_until_the_last_has_removed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal's handler stays until the last worker has stopped."""
    monkeypatch.setattr(blocking_calls, "SUPPORTED", True)
    before = signal.getsignal(signal.SIGURG)
    assert [blocking_calls.install(), blocking_calls.install()] == [True, True]
    blocking_calls.remove()
    assert blocking_calls.signal_number() == signal.SIGURG
    blocking_calls.remove()

    assert blocking_calls.signal_number() == 0
    assert signal.getsignal(signal.SIGURG) == before


def test_a_removed_hook_gets_no_abort_back(monkeypatch: pytest.MonkeyPatch, core: ModuleType) -> None:
    """A removed unraisable hook recovers no abort; those installed before it do."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    again: list[str] = []
    hooks = [UnraisableAborts(lambda _, name=name: again.append(name)) for name in ("a", "b", "c")]  # type: ignore[misc]
    for hook in hooks:
        hook.install()
    hooks[1].remove()
    hooks[2].remove()
    token = current.set(SimpleNamespace(rearm=lambda: True))  # type: ignore[arg-type]
    sys.unraisablehook(SimpleNamespace(exc_type=Abort))  # type: ignore[arg-type]
    current.reset(token)

    assert again == ["a"]
