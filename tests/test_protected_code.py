"""Functions protected by name: of dramatiq, of libraries that tasks use, of any broker (1)."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Middleware
from dramatiq.rate_limits import Barrier, ConcurrentRateLimiter, RateLimiterBackend
from dramatiq.rate_limits.backends import StubBackend as StubLimits
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend as StubResults
from support import (
    PATIENCE,
    needs_interrupts,
    needs_threads,
    run_forever,
    running_in,
    wait_until_it_waits,
    wait_until_requested,
)
from test_safe_points import compiled_only, interrupt_until_it_lands
from test_scope import Stop, Target

from dramatiq_abort import Abortable, abort, wait_for_outcome
from dramatiq_abort._core import safe_points
from dramatiq_abort._core.protected_code import CUT_IN, PROTECTED_IN
from dramatiq_abort._protocol.request import key_of
from dramatiq_abort.backends import StubBackend
from dramatiq_abort.interrupt import InterruptResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from dramatiq.broker import Broker
    from dramatiq.message import Message

pytestmark = needs_interrupts


def test_what_is_cut_in_its_calls_is_protected() -> None:
    """Each function that may be interrupted in certain calls is listed as protected."""
    assert {(module, name) for module in PROTECTED_IN for name in PROTECTED_IN[module]} >= set(CUT_IN)


SOURCE = """
def take(step):
    step("take")
    inner(step)
    step("taken")

def inner(step):
    step("inner")

def other(step):
    step("other")

def take_from(queue, got):
    got.append(queue.get())
"""


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return a library with two protected functions, one of which may be interrupted in one of its calls."""
    space: dict[str, Any] = {"__name__": "some.library"}
    exec(SOURCE, space)
    monkeypatch.setitem(safe_points._named, "some.library", {"take": frozenset({"inner"}), "take_from": frozenset()})
    return space


@needs_threads
@pytest.mark.parametrize(
    ("place", "is_cut", "steps"),
    [
        ("inner", True, ["take", "inner"]),
        ("taken", False, ["take", "inner", "taken"]),
        ("other", True, ["other"]),
    ],
)
def test_a_function_is_protected_by_name(
    core: ModuleType, library: dict[str, Any], place: str, is_cut: bool, steps: list[str]
) -> None:
    """A protected function covers all that it calls except waits; its module's other functions are not protected."""
    entered, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def step(name: str) -> None:
        done.append(name)
        if name == place:
            entered.set()
            while not go_on.is_set():
                time.sleep(0.001)

    def function() -> None:
        library["other" if place == "other" else "take"](step)
        run_forever()

    target = Target(core, function)
    assert entered.wait(PATIENCE)
    if is_cut:
        interrupt_until_it_lands(target)
        assert not go_on.is_set()
    else:
        answers = {target.scope.interrupt(Stop) for _ in range(3)}
        assert answers <= {InterruptResult.ARMED, InterruptResult.PROTECTED}
        go_on.set()
        interrupt_until_it_lands(target)

    assert isinstance(target.error, Stop)
    assert done == steps


def test_a_wait_in_a_protected_function_is_not_cut(core: ModuleType, library: dict[str, Any]) -> None:
    """A wait in a protected function is not interrupted: its object may have been handed over already."""
    import queue

    pool: queue.Queue[str] = queue.Queue()
    got: list[str] = []

    def function() -> None:
        library["take_from"](pool, got)
        run_forever()

    target = Target(core, function)
    wait_until_it_waits(target.thread)
    answers = {target.scope.interrupt(Stop) for _ in range(3)}
    pool.put("connection")
    interrupt_until_it_lands(target)

    assert answers <= {InterruptResult.ARMED, InterruptResult.PROTECTED}
    assert got == ["connection"]


@needs_threads
def test_what_follows_a_wait_in_a_protected_function_is_not_cut(core: ModuleType, library: dict[str, Any]) -> None:
    """An abort that arrives as such a wait returns is raised after the function."""
    compiled_only(core)
    done: list[str] = []
    for _ in range(50):
        done.clear()
        ready = threading.Event()

        def step(name: str, ready: threading.Event = ready) -> None:
            done.append(name)
            if name == "inner":
                ready.set()
                with suppress(ZeroDivisionError):
                    sum(range(20_000))

        target = Target(core, lambda step=step: (library["take"](step), run_forever()))
        assert ready.wait(PATIENCE)
        interrupt_until_it_lands(target)
        assert isinstance(target.error, Stop)
        # It was interrupted in the inner function, or not at all.
        names = [entry.name for entry in _traceback(target.error)]
        assert names[-1] != "take"


def _traceback(error: BaseException) -> Any:
    import traceback

    return traceback.extract_tb(error.__traceback__)


class Pairs(Middleware):
    """Counts paired hooks, and can block a task between them."""

    def __init__(self) -> None:
        self.open = self.closed = 0
        self.entered, self.go_on = threading.Event(), threading.Event()

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        self.open += 1
        if message.actor_name == "child":
            self.entered.set()
            time.sleep(0.001)  # where the pure-Python core finds such a task
            while not self.go_on.is_set():
                time.sleep(0.001)

    def after_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        self.closed += 1


class OwnBroker(StubBroker):
    """A custom broker that runs code while it enqueues."""

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        enqueued = super().enqueue(message, delay=delay)
        self.sent.append(enqueued.actor_name)
        return enqueued

    sent: list[str]


@pytest.fixture
def pairs() -> Pairs:
    return Pairs()


@pytest.fixture
def own_broker(pairs: Pairs) -> Iterator[OwnBroker]:
    broker = OwnBroker([Abortable(backend=StubBackend()), pairs])
    broker.sent = []
    dramatiq.set_broker(broker)
    yield broker
    dramatiq.set_broker(None)  # type: ignore[arg-type]
    broker.close()


@pytest.fixture
def run(own_broker: OwnBroker) -> Iterator[Callable[..., Any]]:
    """Return a function that starts a worker and runs a task as a message."""
    worker = dramatiq.Worker(own_broker, worker_threads=1, worker_timeout=10)

    def run(task: Callable[[], object]) -> Message[Any]:
        message = dramatiq.actor(actor_name="task")(task).send()
        worker.start()
        return message

    yield run
    worker.stop(timeout=PATIENCE * 1000)


@needs_threads
@pytest.mark.parametrize("way", ["send", "enqueue", "group"])
def test_a_message_is_sent_as_a_whole(
    core: ModuleType, own_broker: OwnBroker, pairs: Pairs, run: Callable[..., Any], way: str
) -> None:
    """Sending is never interrupted, with any broker and middleware; the abort is raised after it."""
    child = dramatiq.actor(actor_name="child", queue_name="other")(print)
    behind: list[str] = []

    def task() -> None:
        if way == "send":
            child.send()
        elif way == "enqueue":
            own_broker.enqueue(child.message())
        else:
            dramatiq.group([child.message(), child.message()]).run()
        behind.append("behind")
        run_forever()

    message = run(task)
    assert pairs.entered.wait(PATIENCE)
    abort(message.message_id)
    abortable = next(each for each in own_broker.middleware if isinstance(each, Abortable))
    wait_until_requested(abortable, message)
    (running,) = running_in(abortable).with_key(key_of(message.message_id))
    answers = {running.interrupt() for _ in range(3)}
    pairs.go_on.set()
    outcome = wait_for_outcome(message.message_id, timeout=PATIENCE * 1000)

    assert answers <= {InterruptResult.ARMED, InterruptResult.PROTECTED}
    assert outcome.state.value == "aborted"
    children = 2 if way == "group" else 1
    assert own_broker.sent == ["task"] + ["child"] * children
    assert pairs.open == pairs.closed == 1 + children


class SlowBarriers(RateLimiterBackend):
    """A custom rate limiter backend in which a party waits until it is released."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.waiting, self.decreasing, self.go_on = threading.Event(), threading.Event(), threading.Event()

    def add(self, key: str, value: int, ttl: int) -> bool:
        return True

    def decr(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        self.decreasing.set()
        while not self.go_on.is_set():
            time.sleep(0.001)
        return not self.is_last

    is_last = False

    def wait(self, key: str, timeout: int) -> bool:
        self.waiting.set()
        while True:
            time.sleep(0.001)

    def wait_notify(self, key: str, ttl: int) -> None:
        self.told.append(key)


@needs_threads
def test_a_task_that_waits_at_a_barrier_is_aborted(core: ModuleType) -> None:
    """A task that waits at a barrier is aborted, with any backend."""
    backend = SlowBarriers()
    backend.go_on.set()
    target = Target(core, Barrier(backend, "barrier").wait)
    assert backend.waiting.wait(PATIENCE)
    interrupt_until_it_lands(target)

    assert isinstance(target.error, Stop)


@needs_threads
def test_the_last_party_at_a_barrier_tells_the_others(core: ModuleType) -> None:
    """No abort is raised between the last party's arrival and its release of the others."""
    backend = SlowBarriers()
    backend.is_last = True

    def function() -> None:
        Barrier(backend, "barrier").wait()
        run_forever()

    target = Target(core, function)
    assert backend.decreasing.wait(PATIENCE)
    answers = {target.scope.interrupt(Stop) for _ in range(3)}
    backend.go_on.set()
    interrupt_until_it_lands(target)

    assert answers <= {InterruptResult.ARMED, InterruptResult.PROTECTED}
    assert backend.told == ["barrier@events"]
    assert isinstance(target.error, Stop)


@needs_threads
def test_a_task_that_waits_for_a_result_is_aborted(own_broker: OwnBroker, run: Callable[..., Any]) -> None:
    """A task that waits for a result is aborted as soon as one that sleeps."""
    own_broker.add_middleware(Results(backend=StubResults()))
    child = dramatiq.actor(actor_name="missing", queue_name="other", store_results=True)(int)
    started = threading.Event()

    def task() -> None:
        started.set()
        child.message().get_result(block=True, timeout=PATIENCE * 1000)

    message = run(task)
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert wait_for_outcome(message.message_id, timeout=PATIENCE * 500).state.value == "aborted"


@needs_threads
def test_a_task_that_asks_a_rate_limiter_is_aborted(core: ModuleType) -> None:
    """A task in a rate limiter is aborted, and releases its place."""
    limits = StubLimits()
    limiter = ConcurrentRateLimiter(limits, "limit", limit=1)
    for is_free in (False, True):
        if not is_free:
            assert limits.add("limit", 1, 60_000)
        started = threading.Event()

        def function(started: threading.Event = started) -> None:
            started.set()
            while True:
                with limiter.acquire(raise_on_failure=False):
                    time.sleep(0.001)

        target = Target(core, function)
        assert started.wait(PATIENCE)
        interrupt_until_it_lands(target)
        assert isinstance(target.error, Stop)
        if not is_free:
            assert limits.decr("limit", 1, 0, 60_000)

    assert limits._get("limit", default=0) == 0


@needs_threads
def test_a_task_that_only_sends_is_aborted(
    core: ModuleType, own_broker: OwnBroker, pairs: Pairs, run: Callable[..., Any]
) -> None:
    """A task that only sends is aborted: with the pure-Python core, it follows itself from there."""
    child = dramatiq.actor(actor_name="child", queue_name="other")(print)
    pairs.go_on.set()

    def task() -> None:
        while True:
            child.send()

    message = run(task)
    assert pairs.entered.wait(PATIENCE)
    abort(message.message_id)

    assert wait_for_outcome(message.message_id, timeout=PATIENCE * 500).state.value == "aborted"
    assert pairs.open == pairs.closed
