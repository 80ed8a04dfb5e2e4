"""Which call of an actor's function is the message's own and runs in its scope, however it is made."""

from __future__ import annotations

import functools
import inspect
import threading
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.middleware import Middleware
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend as StubResults
from support import (
    PATIENCE,
    needs_interrupts,
    needs_threads,
    result_of,
    run_forever,
    stub_broker,
    wait_until,
    wait_until_requested,
    working,
)

from dramatiq_abort import Abortable, abort, abort_requested, checkpoint, shield
from dramatiq_abort._core.current import current, here

if TYPE_CHECKING:
    from collections.abc import Callable

    from dramatiq.brokers.stub import StubBroker

    from dramatiq_abort import EventBackend

pytestmark = pytest.mark.usefixtures("core")


def is_aborted(message: Any, started: threading.Event) -> bool:
    """Abort a message once its function runs, and return whether the function saw the abort."""
    assert started.wait(PATIENCE)
    abort(message.message_id)
    return bool(result_of(message) == ("Abort", f"message {message.message_id} was aborted"))


def is_in_scope() -> bool:
    running = here()
    return running is not None and running.scope.is_here()


class Wraps(Middleware):
    """Wraps each actor's function, before or after Abortable does."""

    def __init__(self, wrap: Callable[[Any], Any]) -> None:
        self.wrap = wrap

    def after_declare_actor(self, broker: Any, actor: Any) -> None:
        actor.fn = self.wrap(actor.fn)


class Renames(Middleware):
    """Processes messages with an old actor name with the renamed actor."""

    def before_process_message(self, broker: Any, message: Any) -> None:
        if message.actor_name == "old":
            message._message = message._message.copy(actor_name="new")


def declare_twice(broker: StubBroker, fn: Any) -> None:
    dramatiq.actor(fn, actor_name="new")
    dramatiq.actor(fn, actor_name="old")


def declare_what_was_declared(broker: StubBroker, fn: Any) -> None:
    new = dramatiq.actor(fn, actor_name="new")
    dramatiq.actor(new.fn, actor_name="old")


def keep_the_old_name(broker: StubBroker, fn: Any) -> None:
    broker.actors["old"] = dramatiq.actor(fn, actor_name="new")


def keep_the_old_name_of_what_is_wrapped(broker: StubBroker, fn: Any) -> None:
    broker.actors["old"] = new = dramatiq.actor(fn, actor_name="new")
    in_scope = new.fn

    def call() -> Any:  # without __wrapped__
        return in_scope()

    new.fn = call


def look_up_by_either_name(broker: StubBroker, fn: Any) -> None:
    dramatiq.actor(fn, actor_name="new")
    get_actor = broker.get_actor
    broker.get_actor = lambda name: get_actor("new" if name == "old" else name)  # type: ignore[method-assign]


def give_both_the_same(broker: StubBroker, fn: Any) -> None:
    new = dramatiq.actor(fn, actor_name="new")
    dramatiq.actor(lambda: None, actor_name="old").fn = new.fn


def rename(broker: StubBroker, fn: Any) -> None:
    broker.add_middleware(Renames())
    dramatiq.actor(fn, actor_name="new")
    dramatiq.actor(lambda: None, actor_name="old")  # or a consumer would reject its messages


@needs_interrupts
@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(
    "declare",
    [
        declare_twice,
        declare_what_was_declared,
        keep_the_old_name,
        keep_the_old_name_of_what_is_wrapped,
        look_up_by_either_name,
        give_both_the_same,
        rename,
    ],
)
@pytest.mark.parametrize("name", ["old", "new"])
def test_one_function_under_two_names(
    broker: StubBroker, start_worker: Any, name: str, declare: Any, is_late: bool
) -> None:
    """Messages of both names are aborted, whether or not the worker started first."""
    if is_late:
        start_worker()
    started = threading.Event()

    def task() -> None:
        run_forever(started)

    declare(broker, task)
    if not is_late:
        start_worker()
    message = dramatiq.Message("default", name, (), {}, {})
    broker.enqueue(message)
    if declare is rename:
        message = message.copy(actor_name="new")  # by which its result is found

    assert is_aborted(message, started)


def test_an_old_name_has_the_options_of_its_actor(broker: StubBroker, start_worker: Any) -> None:
    """A message with an old name uses the actor's options: if not ``abortable``, it is not aborted."""
    known = []

    @dramatiq.actor(actor_name="new", abortable=False)
    def task() -> None:
        known.append(here())

    broker.actors["old"] = task
    worker = start_worker()
    broker.enqueue(dramatiq.Message("default", "old", (), {}, {}))
    broker.join("default")
    worker.join()

    assert known == [None]


class Keeps(dramatiq.Actor[Any, Any]):
    """Calls a function that it keeps in an attribute."""

    def __init__(self, fn: Any, **options: Any) -> None:
        self.original = fn
        super().__init__(fn, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.original(*args, **kwargs)


class CallsSuper(dramatiq.Actor[Any, Any]):
    """Runs code before the inherited call."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


class CallsInAnotherMethod(dramatiq.Actor[Any, Any]):
    """Calls the function in another method."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.do(args, kwargs)

    def do(self, args: Any, kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)


class Hides(dramatiq.Actor[Any, Any]):
    """Calls a function that cannot be found."""

    def __init__(self, fn: Any, **options: Any) -> None:
        super().__init__(fn, **options)
        self.do = functools.partial(fn)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.do()


@needs_interrupts
@pytest.mark.parametrize("kind", [Keeps, CallsSuper, CallsInAnotherMethod])
def test_an_actor_with_a_call_of_its_own(
    start_worker: Any, broker: StubBroker, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """An actor with its own ``__call__`` is aborted, without a warning, if its function can be found."""
    started = threading.Event()

    @dramatiq.actor(actor_class=kind)
    def task() -> None:
        run_forever(started)

    start_worker()

    assert is_aborted(task.send(), started)
    assert "cannot be aborted" not in caplog.text


@pytest.mark.parametrize("is_late", [False, True])
def test_a_function_that_is_hidden_is_warned_of(
    start_worker: Any, broker: StubBroker, is_late: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A function that cannot be found causes one warning with the actor's name, before any message."""

    def declare() -> Any:
        return dramatiq.actor(lambda: "ran", actor_name="hidden", actor_class=Hides)

    task = None if is_late else declare()
    start_worker()
    task = task or declare()
    warnings = [record for record in caplog.records if "cannot be aborted" in record.message]
    results = [result_of(task.send()) for _ in range(2)]

    assert results == ["ran", "ran"]
    assert [record for record in caplog.records if "cannot be aborted" in record.message] == warnings
    (warning,) = warnings
    assert warning.levelname == "WARNING"
    assert "actor hidden " in warning.message


def test_a_function_that_is_not_called_is_warned_of(
    start_worker: Any, broker: StubBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """The first message that completes without a call of the function causes the only warning."""

    @dramatiq.actor
    def task() -> None: ...

    task.fn = lambda: "ran"  # type: ignore[assignment, return-value]
    start_worker()
    results = [result_of(task.send()) for _ in range(3)]

    assert results == ["ran"] * 3
    (warning,) = [record for record in caplog.records if "cannot be aborted" in record.message]
    assert "actor task " in warning.message


@pytest.mark.parametrize("how", ["fails", "is failed", "is skipped"])
def test_a_message_that_comes_to_nothing_is_no_reason_to_warn(
    start_worker: Any, broker: StubBroker, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that fails or is skipped causes no warning: its function may not have been called."""

    class Stops(Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            if how == "is failed":
                message.fail()
            elif how == "is skipped":
                raise dramatiq.middleware.SkipMessage("no")

    broker.add_middleware(Stops())

    @dramatiq.actor(max_retries=0)
    def task() -> None:
        raise ValueError

    worker = start_worker()
    task.send()
    broker.join(task.queue_name)
    worker.join()

    assert "cannot be aborted" not in caplog.text


class LostConnectionError(Exception):
    """A reason to call the function again."""


def twice(between: Callable[[], None]) -> Callable[[Any], Any]:
    """Return a wrapper that calls a function again after a lost connection."""

    def wrap(fn: Any) -> Any:
        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return fn(*args, **kwargs)
            except LostConnectionError:
                between()
            return fn(*args, **kwargs)

        return call

    return wrap


@needs_interrupts
def test_a_second_call_has_a_scope_of_its_own(start_worker: Any, broker: StubBroker) -> None:
    """A second call for the same message is aborted like the first."""
    started = threading.Event()
    calls = []
    broker.add_middleware(Wraps(twice(lambda: None)), before=Abortable)

    @dramatiq.actor
    def task() -> None:
        calls.append(is_in_scope())
        if len(calls) == 1:
            raise LostConnectionError
        run_forever(started)

    start_worker()

    assert is_aborted(task.send(), started)
    assert calls == [True, True]


@needs_threads
def test_a_thread_that_calls_the_function_between_two_calls_opens_nothing(
    start_worker: Any, broker: StubBroker
) -> None:
    """Another thread's call with the message's context opens no scope, and the second call still does."""
    contexts: list[Context] = []
    calls: list[bool] = []

    def between() -> None:
        thread = threading.Thread(target=contexts[0].run, args=(task.fn,))
        thread.start()
        thread.join()

    broker.add_middleware(Wraps(twice(between)), before=Abortable)

    @dramatiq.actor
    def task() -> str:
        calls.append(is_in_scope())
        if len(calls) == 1:
            contexts.append(copy_context())
            raise LostConnectionError
        return "done"

    start_worker()

    assert result_of(task.send()) == "done"
    assert calls == [True, False, True]


def test_an_abort_between_two_calls_holds_for_the_second(
    start_worker: Any, broker: StubBroker, abortable: Abortable
) -> None:
    """An abort between two calls, when no scope is open, is raised instead of the second call."""
    failed, goes_on = threading.Event(), threading.Event()
    calls = []

    def between() -> None:
        failed.set()
        assert goes_on.wait(PATIENCE)

    broker.add_middleware(Wraps(twice(between)), before=Abortable)

    @dramatiq.actor
    def task() -> None:
        calls.append("call")
        raise LostConnectionError

    start_worker()
    message = task.send()
    assert failed.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    goes_on.set()

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")
    assert calls == ["call"]


@needs_interrupts
def test_a_grace_period_that_has_begun_between_two_calls_ends_in_the_second(
    start_worker: Any, broker: StubBroker, abortable: Abortable
) -> None:
    """A grace period that begins between two calls ends in the second, not before."""
    failed, goes_on, started = threading.Event(), threading.Event(), threading.Event()
    calls = []

    def between() -> None:
        failed.set()
        assert goes_on.wait(PATIENCE)

    broker.add_middleware(Wraps(twice(between)), before=Abortable)

    @dramatiq.actor
    def task() -> None:
        calls.append("call")
        if len(calls) == 1:
            raise LostConnectionError
        run_forever(started)

    start_worker()
    message = task.send()
    assert failed.wait(PATIENCE)
    abort(message.message_id, abort_timeout=1000 * PATIENCE)
    wait_until_requested(abortable, message)
    goes_on.set()

    assert is_aborted(message, started)
    assert calls == ["call", "call"]


@needs_interrupts
def test_an_abort_that_was_caught_holds_for_a_second_call(start_worker: Any, broker: StubBroker) -> None:
    """After an abort in the first call, a second call is aborted, whatever the first one raised or returned."""
    started = threading.Event()
    calls = []

    def wrap(fn: Any) -> Any:
        def call() -> Any:
            try:
                return fn()
            except BaseException:  # noqa: BLE001 - under test
                return fn()

        return call

    broker.add_middleware(Wraps(wrap), before=Abortable)

    @dramatiq.actor
    def task() -> None:
        calls.append("call")
        run_forever(started)

    start_worker()

    assert is_aborted(task.send(), started)
    assert calls == ["call"]


def test_a_second_call_that_returns_has_completed(start_worker: Any, broker: StubBroker, abortable: Abortable) -> None:
    """(2) A message whose second call returns has completed, whatever the first one did."""
    outcomes: list[Any] = []
    abortable.on_outcome = outcomes.append
    calls = []
    broker.add_middleware(Wraps(twice(lambda: None)), before=Abortable)

    @dramatiq.actor
    def task() -> str:
        calls.append("call")
        if len(calls) == 1:
            raise LostConnectionError
        with shield():
            abort(dramatiq_message[0].message_id, abort_timeout=1000 * PATIENCE)
            wait_until_requested(abortable, dramatiq_message[0])
        return "done"

    dramatiq_message = [task.message()]
    start_worker()
    broker.enqueue(dramatiq_message[0])

    assert result_of(dramatiq_message[0]) == "done"
    wait_until(lambda: outcomes, "the outcome")
    assert [outcome.state.value for outcome in outcomes] == ["completed"]


@needs_interrupts
def test_a_list_of_middleware_that_is_assigned(backend: EventBackend) -> None:
    """(8) Actors are aborted even if the middleware list was assigned, and the actors never declared to it."""
    broker = stub_broker()
    dramatiq.set_broker(broker)
    started = threading.Event()

    @dramatiq.actor
    def task() -> None:
        run_forever(started)

    results = Results(backend=StubResults(), store_results=True)
    broker.middleware = [*broker.middleware, results, Abortable(backend=backend)]
    task.options["store_results"] = True
    with working(broker):
        message = task.send()
        outcome = is_aborted(message, started)
    dramatiq.set_broker(None)  # type: ignore[arg-type]

    assert outcome


def in_a_fresh_context(fn: Any) -> Any:
    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return Context().run(fn, *args, **kwargs)

    return call


def in_one_context(fn: Any) -> Any:
    context = Context()

    def call(*args: Any, **kwargs: Any) -> Any:
        return context.run(fn, *args, **kwargs)

    return call


@needs_interrupts
@pytest.mark.parametrize("wrap", [in_a_fresh_context, in_one_context])
@pytest.mark.parametrize("is_first", [False, True])
def test_a_function_that_runs_in_another_context(
    start_worker: Any, broker: StubBroker, wrap: Any, is_first: bool
) -> None:
    """A function in another context is aborted and knows its message, as does code that it runs in a fresh context."""
    started = threading.Event()
    known = []
    broker.add_middleware(Wraps(wrap), **({"before": Abortable} if is_first else {}))

    @dramatiq.actor
    def task(number: int) -> None:
        for known_here in (here(), Context().run(here)):
            assert known_here is not None
            known.append(known_here.message_id)
        Context().run(checkpoint)
        if number == 2:
            run_forever(started)

    start_worker(worker_threads=1)
    messages = [task.send(number) for number in range(2)]
    results = [result_of(message) for message in messages]
    messages.append(task.send(2))

    assert is_aborted(messages[-1], started)
    assert sorted(known) == sorted(message.message_id for message in messages for _ in range(2))
    assert results == [None, None]


@needs_interrupts
def test_a_shield_in_a_fresh_context(start_worker: Any, broker: StubBroker, abortable: Abortable) -> None:
    """A shield in a fresh context holds the abort back."""
    steps = []

    def critical() -> None:
        with shield():
            abort(message.message_id)
            wait_until_requested(abortable, message)
            steps.append("whole")

    @dramatiq.actor
    def task() -> None:
        Context().run(critical)
        steps.append("behind")

    message = task.message()
    start_worker()
    broker.enqueue(message)

    assert result_of(message)[0] == "Abort"
    assert steps == ["whole"]


@needs_threads
def test_what_else_calls_a_function_is_a_plain_call(start_worker: Any, broker: StubBroker) -> None:
    """Calls by the function itself, another actor or a thread open no scope, and do not use up the message's."""
    found: dict[str, Any] = {}

    class Hook(Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            found["hook"] = other.fn()
            found["hook in a fresh context"] = Context().run(other.fn)

        def after_process_message(self, broker: Any, message: Any, **_: Any) -> None:
            found["behind"] = other.fn()

    broker.add_middleware(Hook())

    @dramatiq.actor
    def other() -> bool:
        return is_in_scope()

    @dramatiq.actor
    def task(depth: int = 0) -> bool:
        if depth == 0:
            mine = here()
            assert mine is not None
            scope = mine.scope
            found["itself"] = task.fn(1), scope is mine.scope
            found["itself in a fresh context"] = Context().run(task.fn, 1), scope is mine.scope
            found["other"] = other.fn(), scope is mine.scope
            for name, context in (("thread", Context()), ("thread with its context", copy_context())):
                thread = threading.Thread(target=lambda: found.update({name: context.run(task.fn, 1)}))  # noqa: B023
                thread.start()
                thread.join()
        return is_in_scope()

    start_worker()

    assert result_of(task.send()) is True
    assert found == {
        "hook": False,
        "hook in a fresh context": False,
        "itself": (True, True),
        "itself in a fresh context": (True, True),
        "other": (True, True),
        "thread": False,
        "thread with its context": False,
        "behind": False,
    }
    assert task.fn(1) is False
    assert abort_requested() is None
    assert current.get() is None


@needs_threads
def test_a_thread_that_outlives_its_message_opens_nothing(start_worker: Any, broker: StubBroker) -> None:
    """A thread that outlives its message opens no scope, though the actor's next message runs elsewhere."""
    goes_on, done = threading.Event(), threading.Event()
    found = []

    def late() -> None:
        assert goes_on.wait(PATIENCE)
        found.append(task.fn(False))
        done.set()

    @dramatiq.actor
    def task(starts: bool) -> bool:
        if starts:
            context = copy_context()
            threading.Thread(target=lambda: context.run(late), daemon=True).start()
        return is_in_scope()

    start_worker()
    assert result_of(task.send(True)) is True
    goes_on.set()
    assert done.wait(PATIENCE)

    assert found == [False]


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.usefixtures("broker")
def test_a_function_shows_its_parameters(start_worker: Any, runs: bool) -> None:
    """``inspect.signature`` and ``inspect.getfullargspec`` show a function's parameters, in a worker and elsewhere."""

    def plain(x: int, *rest: int, y: str = "z") -> tuple[int, str]:
        return x, y

    async def coroutine(x: int, *, y: str = "z") -> None: ...

    task, other = dramatiq.actor(plain), dramatiq.actor(coroutine)
    if runs:
        start_worker()

    assert inspect.signature(task.fn) == inspect.signature(plain)
    assert inspect.getfullargspec(task.fn) == inspect.getfullargspec(plain)
    assert inspect.signature(other.fn) == inspect.signature(coroutine)
    assert inspect.getfullargspec(other.fn) == inspect.getfullargspec(coroutine)
