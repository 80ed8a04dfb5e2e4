"""What always holds, on real workers: each test runs over both cores and all backends, and names what it proves.

The numbers are those of the guarantees: 1 exact window, 2 completed wins, 3 others' exceptions, 4 terminal, 5 no abort
is lost, 6 fail open and loud, 7 no round trip per message, 8 any order, 9 the same everywhere.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.encoder import PickleEncoder
from dramatiq.middleware import AsyncIO, Middleware, Retries, SkipMessage, TimeLimitExceeded
from dramatiq.results import ResultFailure, ResultMissing, Results
from support import PATIENCE, run_forever, set_async_exception, stub_broker, wait_until

from dramatiq_abort import (
    Abort,
    Abortable,
    AbortMode,
    BackendError,
    EventBackend,
    abort,
    abort_requested,
    shield,
)
from dramatiq_abort.backends import StubBackend
from dramatiq_abort.request import key_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from dramatiq.brokers.stub import StubBroker
    from dramatiq.message import Message

pytestmark = pytest.mark.usefixtures("core")


class Hooks(Middleware):
    """Counts what dramatiq tells a middleware about each message."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self.exceptions: dict[str, BaseException | None] = {}

    def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:
        self.calls["before", message.message_id] += 1

    def after_process_message(
        self, broker: dramatiq.Broker, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        self.calls["after", message.message_id] += 1
        self.exceptions[message.message_id] = exception

    def after_skip_message(self, broker: dramatiq.Broker, message: Any) -> None:
        self.calls["skip", message.message_id] += 1

    def after_ack(self, broker: dramatiq.Broker, message: Any) -> None:
        self.calls["ack", message.message_id] += 1

    def after_nack(self, broker: dramatiq.Broker, message: Any) -> None:
        self.calls["nack", message.message_id] += 1

    def of(self, message: Message[Any]) -> set[tuple[str, int]]:
        return {(name, count) for (name, message_id), count in self.calls.items() if message_id == message.message_id}


@pytest.fixture
def hooks(broker: StubBroker) -> Hooks:
    hooks = Hooks()
    broker.add_middleware(hooks)
    return hooks


def result_of(message: Message[Any]) -> Any:
    """The result, or the type and text of the failure."""
    found: list[Any] = []

    def is_there() -> bool:
        try:
            found.append(message.get_result())
        except ResultFailure as failure:
            found.append((failure.orig_exc_type, failure.orig_exc_msg))
        except ResultMissing:
            return False
        return True

    wait_until(is_there, "the result")
    return found[0]


def test_a_running_message_is_aborted(worker: dramatiq.Worker, hooks: Hooks, caplog: pytest.LogCaptureFixture) -> None:
    """(1, 4) Abort comes up in the function; the message fails, once, with no retry and no traceback in the log."""
    caplog.set_level(logging.INFO)
    started = threading.Event()
    seen: list[Abort] = []

    @dramatiq.actor(min_backoff=1, max_backoff=1)
    def task() -> None:
        try:
            run_forever(started)
        except Abort as aborted:
            seen.append(aborted)
            assert aborted.message_id == message.message_id
            raise

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")
    assert len(seen) == 1
    assert seen[0].message_id == message.message_id
    assert hooks.of(message) == {("before", 1), ("after", 1), ("nack", 1)}
    lines = [record for record in caplog.records if record.name.startswith("dramatiq.worker.WorkerThread")]
    assert [(line.levelname, line.exc_info) for line in lines if "Failed to process" in line.message] == [
        ("INFO", None)
    ]
    worker.join()


def test_an_aborted_message_calls_on_failure(worker: dramatiq.Worker) -> None:
    """(4) As any other that fails."""
    started = threading.Event()
    failures: list[dict[str, str]] = []

    @dramatiq.actor
    def failed(_: dict[str, Any], error: dict[str, str]) -> None:
        failures.append(error)

    @dramatiq.actor(on_failure="failed")
    def task() -> None:
        run_forever(started)

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    result_of(message)
    wait_until(lambda: failures, "the failure callback")

    assert failures == [{"type": "Abort", "message": f"message {message.message_id} was aborted"}]


@pytest.mark.parametrize("options", [{}, {"throws": KeyError}, {"throws": (KeyError, OSError)}])
def test_what_the_function_makes_of_an_abort_is_not_retried(
    worker: dramatiq.Worker, caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    """(4) It may raise something else: the message fails as aborted, and the log has what was raised."""
    started = threading.Event()
    calls: list[int] = []

    @dramatiq.actor(min_backoff=1, max_backoff=1, **options)
    def task() -> None:
        calls.append(1)
        try:
            run_forever(started)
        except Abort:
            raise ValueError("broken clean-up") from None

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    kind, text = result_of(message)
    worker.join()

    assert kind == "Abort"
    assert "ValueError" in text
    assert calls == [1]
    assert "broken clean-up" in caplog.text


def test_an_actors_own_throws_still_hold(worker: dramatiq.Worker) -> None:
    """(4) Nothing is taken away from the actor's options."""

    @dramatiq.actor(throws=KeyError, min_backoff=1)
    def task() -> None:
        raise KeyError("expected")

    assert result_of(task.send())[0] == "KeyError"


def test_a_messages_own_throws_still_hold(worker: dramatiq.Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """(4) Which go before the actor's, with an encoder that can carry them."""
    monkeypatch.setattr("dramatiq.message.global_encoder", PickleEncoder())
    started = threading.Event()
    calls: list[int] = []

    @dramatiq.actor(min_backoff=1_000, max_backoff=1_000)
    def task() -> None:
        calls.append(1)
        run_forever(started)

    message = task.send_with_options(throws=(KeyError,))
    assert started.wait(PATIENCE)
    abort(message.message_id, abort_ttl=1)
    assert result_of(message)[0] == "Abort"
    worker.join()

    assert calls == [1]


def test_a_coroutine_that_has_begun_is_cancelled(broker: StubBroker, start_worker: Any) -> None:
    """(2, 9) An async actor is aborted on dramatiq's own way, at any moment, and never runs on without its message."""
    broker.add_middleware(AsyncIO())
    begun: list[int] = []
    ended: list[str] = []

    @dramatiq.actor
    async def task(number: int) -> None:
        begun.append(number)
        try:
            await asyncio.sleep(0.2)
            ended.append("finished")
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    start_worker()
    for number in range(30):
        message = task.send(number)
        if number % 3:
            wait_until(lambda number=number: begun and begun[-1] == number)  # type: ignore[misc]
        abort(message.message_id)
        assert result_of(message) in {None, ("Abort", f"message {message.message_id} was aborted")}
    wait_until(lambda: len(ended) == len(begun))

    assert begun
    assert set(ended) == {"cancelled"}


def test_an_abort_is_not_lost_where_nothing_can_be_raised(worker: dramatiq.Worker) -> None:
    """(5) In the clean-up of generators that nobody finishes, CPython drops it: then it is raised again."""
    started = threading.Event()

    def generator() -> Iterator[int]:
        try:
            yield 1
        finally:
            for _ in range(300):
                pass

    @dramatiq.actor
    def task() -> None:
        started.set()
        while True:
            next(generator())

    before = sys.unraisablehook
    for _ in range(10):
        started.clear()
        message = task.send()
        assert started.wait(PATIENCE)
        abort(message.message_id)
        assert result_of(message)[0] == "Abort"
    assert sys.unraisablehook is before


def test_an_abort_that_is_swallowed_is_the_functions_affair(worker: dramatiq.Worker, hooks: Hooks) -> None:
    """(2) A function that goes on and returns has completed."""
    started = threading.Event()

    @dramatiq.actor
    def task() -> str:
        try:
            run_forever(started)
        except Abort:
            pass
        return "went on"

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message) == "went on"
    wait_until(lambda: hooks.of(message) == {("before", 1), ("after", 1), ("ack", 1)})
    assert hooks.exceptions[message.message_id] is None


@pytest.mark.parametrize("says_so", ["middleware", "abort", "second abort"])
def test_an_abort_is_repeated_if_that_is_wanted(worker: dramatiq.Worker, abortable: Abortable, says_so: str) -> None:
    """(4) A function that catches Abort and goes on is interrupted again and again."""
    started = threading.Event()
    caught = []

    @dramatiq.actor
    def goes_on() -> None:
        while len(caught) < 3:
            try:
                run_forever(started)
            except Abort as error:
                caught.append(error)
        run_forever()

    abortable.repeat_every = 1 if says_so == "middleware" else None
    message = goes_on.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, repeat_every=1 if says_so == "abort" else None)
    if says_so == "second abort":
        wait_until(lambda: caught, "the first abort")
        abort(message.message_id, repeat_every=1)

    assert result_of(message)[0] == "Abort"
    assert len(caught) == 3


def test_a_message_that_does_not_stop_is_reported(
    broker: StubBroker, abortable: Abortable, start_worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """(6) Once, with the reason and the stack, so that an operator sees where it hangs."""
    started, go_on = threading.Event(), threading.Lock()
    go_on.acquire()

    @dramatiq.actor
    def holds_out() -> str:
        with shield():
            started.set()
            go_on.acquire()
        return "aborted at the end of the shield"

    def reports() -> list[str]:
        texts = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        return [text for text in texts if message.message_id in text]

    abortable.report_after = 1
    start_worker()
    message = holds_out.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    wait_until(reports, "the report")
    go_on.release()

    assert result_of(message)[0] == "Abort"
    assert len(reports()) == 1
    assert "holds_out should have stopped 0." in reports()[0]
    assert "it is behind a shield" in reports()[0]
    assert "go_on.acquire()" in reports()[0]


def test_a_message_that_is_never_run_is_not_pursued(broker: StubBroker, start_worker: Any) -> None:
    """(5) One that another middleware skips, when its abort is already known, leaves nothing behind."""
    aborted = threading.Event()

    class Skips(Middleware):
        def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:
            abort(message.message_id)
            wait_until(lambda: "dramatiq-abort deadlines" in {thread.name for thread in threading.enumerate()})
            aborted.set()
            raise SkipMessage

    @dramatiq.actor
    def skipped() -> None: ...

    broker.add_middleware(Skips())
    start_worker()
    skipped.send()
    assert aborted.wait(PATIENCE)

    wait_until(lambda: "dramatiq-abort deadlines" not in {thread.name for thread in threading.enumerate()})


def test_a_finished_message_is_not_touched(worker: dramatiq.Worker, hooks: Hooks) -> None:
    """(2) Its result stays, and the next message on the same thread is not hit (1)."""

    @dramatiq.actor
    def task(number: int) -> int:
        return number

    for number in range(20):
        message = task.send(number)
        assert result_of(message) == number
        abort(message.message_id)
    worker.join()

    assert not any(hooks.exceptions.values())


def test_a_waiting_message_is_skipped(broker: StubBroker, start_worker: Any, hooks: Hooks) -> None:
    """(4, 5) A worker that starts after the abort acknowledges the message, and its function is not called."""
    calls: list[int] = []

    @dramatiq.actor
    def task() -> None:
        calls.append(1)

    message = task.send()
    abort(message.message_id)
    start_worker()

    assert result_of(message) is None
    wait_until(lambda: hooks.calls["ack", message.message_id])
    assert calls == []
    assert hooks.of(message) == {("skip", 1), ("ack", 1)}


def test_a_skipped_message_fails_if_that_is_wanted(broker: StubBroker, abortable: Abortable, start_worker: Any) -> None:
    """(4) So that it can be told from success."""
    abortable.fail_skipped = True

    @dramatiq.actor
    def task() -> None: ...

    message = task.send()
    abort(message.message_id)
    start_worker()

    kind, text = result_of(message)
    assert kind == "AbortedBeforeStart"
    assert message.message_id in text
    assert [dead.message_id for dead in broker.dead_letters] == [message.message_id]


def test_a_delayed_message_is_skipped(worker: dramatiq.Worker) -> None:
    """(5) When its time comes."""
    calls: list[int] = []

    @dramatiq.actor
    def task() -> None:
        calls.append(1)

    message = task.send_with_options(delay=100)
    abort(message.message_id)

    assert result_of(message) is None
    assert calls == []


def test_an_aborted_message_that_is_delivered_again_is_skipped(worker: dramatiq.Worker, broker: StubBroker) -> None:
    """(4) Redelivery does not run it again."""
    started = threading.Event()
    calls: list[int] = []

    @dramatiq.actor
    def task() -> None:
        calls.append(1)
        run_forever(started)

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    assert result_of(message)[0] == "Abort"
    broker.enqueue(message)
    worker.join()

    assert calls == [1]


def test_a_message_that_runs_twice_at_once_is_aborted_twice(worker: dramatiq.Worker, broker: StubBroker) -> None:
    """(5) A broker may deliver a message that is still running."""
    started: list[int] = []
    aborted: list[int] = []

    @dramatiq.actor
    def task() -> None:
        try:
            started.append(1)
            run_forever()
        except Abort:
            aborted.append(1)
            raise

    message = task.send()
    broker.enqueue(message)
    wait_until(lambda: len(started) == 2)
    abort(message.message_id)
    worker.join()

    assert aborted == [1, 1]


def test_a_cancelled_message_that_runs_is_left_alone(worker: dramatiq.Worker, start_worker: Any) -> None:
    """CANCEL is for messages that wait; and an abort behind it still counts."""
    started, go_on = threading.Event(), threading.Event()

    @dramatiq.actor
    def task() -> str:
        started.set()
        assert go_on.wait(PATIENCE)
        return "done"

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, mode=AbortMode.CANCEL)
    canary = task.message()
    abort(canary.message_id, mode=AbortMode.CANCEL)  # handed out behind the first one
    go_on.set()

    assert result_of(message) == "done"


def test_a_cancelled_message_that_waits_is_skipped(broker: StubBroker, start_worker: Any) -> None:
    """As with an abort."""
    calls: list[int] = []

    @dramatiq.actor
    def task() -> None:
        calls.append(1)

    message = task.send()
    abort(message.message_id, mode=AbortMode.CANCEL)
    start_worker()

    assert result_of(message) is None
    assert calls == []


def test_a_task_uses_its_grace_period(worker: dramatiq.Worker) -> None:
    """It sees the milliseconds count down, and finishes by itself."""
    started = threading.Event()
    seen: list[float] = []

    @dramatiq.actor
    def task() -> str:
        started.set()
        assert abort_requested() is None
        while (left := abort_requested()) is None or len(seen) < 3:
            if left is not None and left not in seen:
                seen.append(left)
        return "finished"

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, abort_timeout=60_000)

    assert result_of(message) == "finished"
    assert 60_000 >= seen[0] > seen[1] > seen[2] > 30_000


def test_a_grace_period_ends(worker: dramatiq.Worker) -> None:
    """Then Abort is raised, and not before."""
    started = threading.Event()
    left: list[float | None] = []

    @dramatiq.actor
    def task() -> None:
        try:
            run_forever(started)
        except Abort:
            left.append(abort_requested())
            raise

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, abort_timeout=50)

    assert result_of(message)[0] == "Abort"
    assert left == [0]


def test_a_second_abort_ends_the_grace_period(worker: dramatiq.Worker) -> None:
    """Whoever has lost patience need not wait."""
    started, noticed = threading.Event(), threading.Event()

    @dramatiq.actor
    def task() -> None:
        started.set()
        while abort_requested() is None:
            pass
        run_forever(noticed)

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, abort_timeout=600_000)
    assert noticed.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"


def test_what_is_raised_in_the_grace_period_is_not_retried(worker: dramatiq.Worker) -> None:
    """(4) A message that was to be aborted does not run again."""
    started = threading.Event()
    calls: list[int] = []

    @dramatiq.actor(min_backoff=1, max_backoff=1)
    def task() -> None:
        calls.append(1)
        started.set()
        while abort_requested() is None:
            pass
        raise ConnectionError("gave up")

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, abort_timeout=600_000)
    kind, text = result_of(message)
    worker.join()

    assert kind == "Abort"
    assert "ConnectionError" in text
    assert calls == [1]


def test_a_shield_completes_before_the_abort(worker: dramatiq.Worker) -> None:
    """The critical section is not cut."""
    inside = threading.Event()
    order: list[str] = []

    @dramatiq.actor
    def task() -> None:
        with shield():
            inside.set()
            while abort_requested() is None:
                pass
            order.append("critical section")
        order.append("behind")

    message = task.send()
    assert inside.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    assert order == ["critical section"]


def test_an_abort_between_the_question_and_the_start_is_raised(broker: StubBroker, start_worker: Any) -> None:
    """(5) The message has been found not aborted, and its function has not been called yet."""
    about_to_start, go_on = threading.Event(), threading.Event()
    calls: list[int] = []

    class Slow(Middleware):
        def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:
            about_to_start.set()
            assert go_on.wait(PATIENCE)

    @dramatiq.actor
    def task() -> None:
        calls.append(1)

    broker.add_middleware(Slow())
    start_worker()
    message = task.send()
    assert about_to_start.wait(PATIENCE)
    abort(message.message_id)
    wait_until(lambda: any(r.request for r in abortable_of(broker)._running.with_key(key_of(message.message_id))))
    go_on.set()

    assert result_of(message)[0] == "Abort"
    assert calls == []


def abortable_of(broker: StubBroker) -> Abortable:
    return next(middleware for middleware in broker.middleware if isinstance(middleware, Abortable))


@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize("declared", ["before", "after"])
def test_it_holds_in_any_order(backend: EventBackend, results: Results, where: str, declared: str) -> None:
    """(8) Wherever the middleware stands, and whether actors were declared before or after it was added."""
    broker = stub_broker(Retries(min_backoff=1, max_backoff=1), results)
    dramatiq.set_broker(broker)
    started = threading.Event()
    calls: list[str] = []

    def declare() -> Any:
        @dramatiq.actor
        def task() -> None:
            calls.append("task")
            try:
                run_forever(started)
            except Abort:
                raise ValueError from None

        return task

    task = declare() if declared == "before" else None
    if where == "first":
        broker.add_middleware(Abortable(backend=backend), before=Retries)
    else:
        broker.add_middleware(Abortable(backend=backend))
    task = task or declare()
    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=2)
    worker.start()
    running, waiting = task.send(), task.message()
    abort(waiting.message_id)
    broker.enqueue(waiting)
    assert started.wait(PATIENCE)
    abort(running.message_id)
    outcomes = result_of(running)[0], result_of(waiting)
    worker.join()
    worker.stop()

    assert outcomes == ("Abort", None)
    assert calls == ["task"]


def test_without_retries_an_abort_fails_too(backend: EventBackend, results: Results) -> None:
    """(4) Its failure is in the result backend, although dramatiq itself stores no failure without Retries."""
    broker = stub_broker(results, Abortable(backend=backend))
    dramatiq.set_broker(broker)
    started = threading.Event()

    @dramatiq.actor
    def task() -> None:
        run_forever(started)

    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=2)
    worker.start()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    kind, _ = result_of(message)
    worker.stop()

    assert kind == "Abort"


@pytest.mark.parametrize(
    ("on_middleware", "on_actor", "on_message", "expected"),
    [
        (True, None, None, True),
        (False, None, None, False),
        (False, True, None, True),
        (True, False, None, False),
        (True, True, False, False),
        (False, False, True, True),
    ],
)
def test_the_message_decides_before_the_actor_before_the_middleware(
    abortable: Abortable,
    broker: StubBroker,
    start_worker: Any,
    on_middleware: bool,
    on_actor: bool | None,
    on_message: bool | None,
    expected: bool,
) -> None:
    """Whether it can be aborted."""
    abortable.abortable = on_middleware
    options = {} if on_actor is None else {"abortable": on_actor}

    @dramatiq.actor(**options)
    def task() -> str:
        return "ran"

    message = task.send_with_options(**({} if on_message is None else {"abortable": on_message}))
    abort(message.message_id)
    start_worker()

    assert result_of(message) == (None if expected else "ran")


def test_an_actor_is_a_plain_function_outside_of_a_worker(worker: dramatiq.Worker) -> None:
    """Called directly, by a test or by another actor, nothing of its own is aborted."""

    @dramatiq.actor
    def inner(number: int) -> int:
        assert abort_requested() is None
        with shield():
            return number + 1

    @dramatiq.actor
    def outer(number: int) -> int:
        return inner(number) + inner.fn(number)

    assert inner(1) == 2
    assert inner.fn(1) == 2
    assert result_of(outer.send(1)) == 4


def test_an_actor_that_is_called_directly_is_aborted_with_its_caller(worker: dramatiq.Worker) -> None:
    """It runs in the caller's scope."""
    started = threading.Event()

    @dramatiq.actor
    def inner() -> None:
        run_forever(started)

    @dramatiq.actor
    def outer() -> None:
        inner()

    message = outer.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"


def test_somebody_elses_exception_comes_first(worker: dramatiq.Worker, core: ModuleType, abortable: Abortable) -> None:
    """(3) One that is on its way is not overwritten, and the abort is tried again while the message runs."""
    if core.__name__.endswith("_py"):
        pytest.skip("the pure-Python core cannot read the slot")
    lock = threading.Lock()
    lock.acquire()
    threads: list[threading.Thread] = []
    waiting = threading.Event()
    seen: list[str] = []

    @dramatiq.actor
    def task() -> None:
        threads.append(threading.current_thread())
        try:
            waiting.set()
            lock.acquire()
        except TimeLimitExceeded:
            seen.append("TimeLimitExceeded")
        try:
            run_forever()
        except Abort:
            seen.append("Abort")
            raise

    message = task.send()
    assert waiting.wait(PATIENCE)
    set_async_exception(threads[0], TimeLimitExceeded)
    abort(message.message_id)
    wait_until(lambda: any(r.request for r in abortable._running.with_key(key_of(message.message_id))))
    lock.release()

    assert result_of(message)[0] == "Abort"
    assert seen[0] == "TimeLimitExceeded"


class Breaking(StubBackend):
    """A backend that can be out of reach."""

    def __init__(self) -> None:
        super().__init__()
        self.reachable = True
        self.failures = 0

    def check(self) -> None:
        if not self.reachable:
            self.failures += 1
            raise ConnectionError("out of reach")

    def signal(self, events: Any) -> None:
        self.check()
        super().signal(events)

    def poll(self, key: bytes) -> bool:
        self.check()
        return super().poll(key)

    def wait_many(self, keys: Any, timeout: int) -> bytes | None:
        self.check()
        return super().wait_many(keys, 10)


def test_a_backend_that_is_down_harms_no_message(results: Results, caplog: pytest.LogCaptureFixture) -> None:
    """(6, 5) Messages run, one line says that it went and one that it is back; then aborts take effect again."""
    caplog.set_level(logging.INFO, "dramatiq_abort")
    backend = Breaking()
    broker = stub_broker(Retries(), results, Abortable(backend=backend))
    dramatiq.set_broker(broker)
    started = threading.Event()

    @dramatiq.actor
    def quick() -> str:
        return "ran"

    @dramatiq.actor
    def slow() -> None:
        run_forever(started)

    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=2)
    worker.start()
    running = slow.send()
    assert started.wait(PATIENCE)
    backend.reachable = False
    wait_until(lambda: backend.failures > 3)
    outcomes = [result_of(quick.send()) for _ in range(20)]
    with pytest.raises(BackendError, match="was not aborted") as caught:
        abort(running.message_id)
    backend.reachable = True
    abort(running.message_id)
    outcome, _ = result_of(running)
    worker.stop()

    assert outcomes == ["ran"] * 20
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert outcome == "Abort"
    about_backend = [record for record in caplog.records if "event backend" in record.message]
    assert [record.levelname for record in about_backend] == ["ERROR", "INFO"]


def test_what_a_backend_says_is_not_trusted(
    worker: dramatiq.Worker, backend: EventBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """(6) A value that is no request is ignored with a log line, by those who run and by those who start."""
    started, go_on = threading.Event(), threading.Event()

    @dramatiq.actor
    def task() -> str:
        started.set()
        assert go_on.wait(PATIENCE)
        return "ran"

    message = task.send()
    assert started.wait(PATIENCE)
    key = key_of(message.message_id)
    backend.notify(key, 60_000, b"\x80\x04]")  # type: ignore[call-arg]
    wait_until(lambda: "is ignored" in caplog.text)
    go_on.set()
    assert result_of(message) == "ran"
    again = task.send_with_options()
    waiting = task.message()
    backend.notify(key_of(waiting.message_id), 60_000, b"{}}")  # type: ignore[call-arg]
    worker.broker.enqueue(waiting)

    assert result_of(again) == "ran"
    assert result_of(waiting) == "ran"


def test_a_second_worker_keeps_its_watcher(broker: StubBroker, start_worker: Any) -> None:
    """(5) When the first one stops."""
    started = threading.Event()

    @dramatiq.actor
    def task() -> None:
        run_forever(started)

    first = start_worker()
    start_worker()
    first.stop()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"


def test_a_worker_stops_while_an_abort_is_pending(broker: StubBroker, start_worker: Any) -> None:
    """And does not wait for one that cannot be raised."""
    started, go_on = threading.Event(), threading.Event()

    @dramatiq.actor
    def task() -> None:
        with shield():
            started.set()
            assert go_on.wait(PATIENCE)

    worker = start_worker()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    wait_until(
        lambda: any(running.request for running in abortable_of(broker)._running.with_key(key_of(message.message_id)))
    )
    worker.stop(timeout=1)
    left = [thread.name for thread in threading.enumerate() if "dramatiq-abort" in thread.name]
    go_on.set()

    assert left == []
    assert result_of(message)[0] == "Abort"


def test_no_thread_is_left(broker: StubBroker, start_worker: Any) -> None:
    """The watcher ends with its worker, and so does the thread of the grace periods."""
    before = set(threading.enumerate())
    started = threading.Event()

    @dramatiq.actor
    def task() -> None:
        started.set()
        while abort_requested() is None:
            pass

    for _ in range(3):
        started.clear()
        worker = start_worker()
        message = task.send()
        assert started.wait(PATIENCE)
        abort(message.message_id, abort_timeout=600_000)
        result_of(message)
        worker.stop()
        assert {thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()} == set()


def test_a_storm_of_aborts(broker: StubBroker, start_worker: Any, hooks: Hooks, tiny_switch_interval: None) -> None:
    """(1, 2, 4) Short messages, each aborted at about its end: every one is counted once, and no thread is lost."""
    calls: Counter[int] = Counter()
    begun: deque[int] = deque()

    @dramatiq.actor(min_backoff=1, max_backoff=1)
    def task(number: int) -> int:
        calls[number] += 1
        begun.append(number)
        for step in range(number % 97 * 1_000):
            abs(step)
        return number

    messages = [task.send(number) for number in range(400)]
    worker: dramatiq.Worker = start_worker(worker_threads=8)

    def all_done() -> bool:
        while begun:
            abort(messages[begun.pop()].message_id)  # the one that began last, of those that are left
        return len([name for name, _ in list(hooks.calls) if name in {"ack", "nack"}]) == len(messages)

    wait_until(all_done, "the end of all messages")

    assert all(thread.is_alive() for thread in worker.workers)
    assert set(calls.values()) == set(hooks.calls.values()) == {1}
    aborted = {message_id for message_id, exception in hooks.exceptions.items() if exception is not None}
    assert {type(hooks.exceptions[message_id]) for message_id in aborted} == {Abort}
    assert {message_id for name, message_id in hooks.calls if name == "nack"} == aborted
    assert 0 < len(aborted) < len(messages)
    for message in messages:
        assert (result_of(message) == message.args[0]) == (message.message_id not in aborted)
