"""The hooks that every message passes through, compiled and in pure Python."""

from __future__ import annotations

import inspect
import math
import time
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.broker import MessageProxy
from dramatiq.middleware.asyncio import AsyncIO
from support import stub_broker, wait_until, working

from dramatiq_abort import Abort, Abortable
from dramatiq_abort._core.current import current
from dramatiq_abort._protocol.request import AbortRequest, key_of
from dramatiq_abort._worker.broker_runtime import BrokerRuntime
from dramatiq_abort._worker.hooks_py import MessageHooks as PurePassage
from dramatiq_abort.backends import StubBackend
from dramatiq_abort.interrupt import IMPLEMENTATION

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from dramatiq.brokers.stub import StubBroker

    from dramatiq_abort import EventBackend
    from dramatiq_abort._worker.execution import Execution

pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.sanitized, pytest.mark.pure_core]


@pytest.fixture
def runtime(broker: StubBroker) -> BrokerRuntime:
    abortable = Abortable(backend=StubBackend())
    return BrokerRuntime(broker, abortable.backend, abortable.settings())


def message(message_id: Any = "x", *, made: Any = 5, queue: str = "default", **options: Any) -> Any:
    """Return a message of no actor, as a broker delivers it."""
    words: dict[str, Any] = {"message_id": message_id, "message_timestamp": made}
    return MessageProxy(dramatiq.Message(queue, "task", (), {}, options, **words))


def process(runtime: BrokerRuntime, proxy: Any, exception: BaseException | None = None) -> Execution | None:
    """Pass a message through the hooks, and return the messages that were running meanwhile."""
    broker = stub_broker()
    runtime.hooks.before_process_message(broker, proxy)
    running = current.get()
    runtime.hooks.after_process_message(broker, proxy, exception=exception)
    assert current.get() is None
    return running


def test_each_core_has_its_own(core: ModuleType, runtime: BrokerRuntime) -> None:
    """Each core has its own hooks, so both are tested."""
    is_pure = type(runtime.hooks) is PurePassage

    assert is_pure == (IMPLEMENTATION == "python" or core.__name__ == "dramatiq_abort._core.interrupt_py")


def test_a_message_is_in_the_table_while_it_is_processed(runtime: BrokerRuntime) -> None:
    """A message is in the table, by its key, while it is processed, and remembered when it has completed."""
    proxy = message("é/1", queue="pictures")
    before = time.monotonic()
    running = process(runtime, proxy)
    assert running is not None

    assert (running.message_id, running.key, running.actor_name) == ("é/1", key_of("é/1"), "task")
    assert running.message is proxy._message
    assert not runtime.hooks.by_id
    assert runtime.executions.all() == []
    assert running.ended is not None
    assert before <= running.started <= running.ended <= time.monotonic()
    assert runtime.hooks.completed("é/1") == ("é/1", "task", "pictures", 5, running.started, running.ended)
    assert list(runtime.executions) == [key_of("é/1")]
    assert key_of("é/1") in runtime.executions
    assert runtime.hooks.completed("é") is None


def test_two_that_complete_at_the_same_time_are_both_kept_in_mind(runtime: BrokerRuntime) -> None:
    """Of two messages that complete at once, both are remembered, even if one's class computes its attributes."""

    class Slow:
        message_id, actor_name, message_timestamp = "slow", "task", 5
        options: dict[str, Any] = {}  # noqa: RUF012 - never changed

        @property
        def queue_name(self) -> str:
            process(runtime, message("other", queue="others"))
            return "slow ones"

    process(runtime, MessageProxy(Slow()))  # type: ignore[arg-type]

    found = [runtime.hooks.completed(message_id) for message_id in ("slow", "other")]
    assert [about and about[:3] for about in found] == [("slow", "task", "slow ones"), ("other", "task", "others")]


def test_the_last_thousand_are_kept_in_mind(runtime: BrokerRuntime) -> None:
    """The last thousand completed messages are remembered, the newest of each id."""
    first = process(runtime, message("twice"))
    for number in range(998):
        process(runtime, message(str(number)))
    second = process(runtime, message("twice"))
    assert first is not None
    assert second is not None
    about = runtime.hooks.completed("twice")
    assert about is not None

    assert about[-1] == second.ended != first.ended
    assert len(runtime.executions) == 1000
    process(runtime, message("998"))
    process(runtime, message("999"))
    assert len(runtime.executions) == 1000
    assert runtime.hooks.completed("0") is None
    assert [runtime.hooks.completed(each) is not None for each in ("1", "twice", "999")] == [True] * 3


@pytest.mark.parametrize("made", [None, "5", True, math.nan, math.inf, 10**400, -(10**400), [5], {}], ids=lambda _: "")
def test_a_time_that_somebody_has_made_up_is_none(runtime: BrokerRuntime, made: Any) -> None:
    """An invalid timestamp counts as none, and does not stop the message."""
    process(runtime, message(made=made))
    completed = runtime.executions.completed(key_of("x"))

    assert completed is not None
    assert completed.outcome("worker", AbortRequest()).enqueued is None


def test_what_has_failed_is_not_kept_in_mind(runtime: BrokerRuntime) -> None:
    """A failed or aborted message is not remembered as completed."""
    proxies = [message(), message()]
    running = [process(runtime, proxies[0], ValueError()), process(runtime, proxies[1], Abort())]

    assert [(each and each.state.value, proxy.failed) for each, proxy in zip(running, proxies, strict=True)] == [
        ("failed", False),
        ("aborted", True),
    ]
    assert runtime.hooks.completed("x") is None


def test_what_is_skipped_is_not_kept_in_mind(runtime: BrokerRuntime) -> None:
    """A skipped message is not remembered as completed, whatever skipped it."""
    broker, proxy = stub_broker(), message()
    runtime.hooks.before_process_message(broker, proxy)
    running = current.get()
    runtime.hooks.after_skip_message(broker, proxy)
    runtime.hooks.after_skip_message(broker, proxy)  # the message was not abortable

    assert running is not None
    assert running.state.value == "skipped"
    assert current.get() is None
    assert len(runtime.executions) == 0


def test_a_message_that_is_delivered_again_has_a_place_of_its_own(runtime: BrokerRuntime) -> None:
    """Executions of a redelivered message have separate entries, removed in any order."""
    broker, proxy = stub_broker(), message()
    taken = []
    for _ in range(3):
        runtime.hooks.before_process_message(broker, proxy)
        taken.append(current.get())
    assert runtime.executions.with_key(key_of("x")) == tuple(taken)
    for number, running in enumerate((taken[1], taken[0], taken[2])):
        current.set(running)
        runtime.hooks.after_process_message(broker, proxy)
        assert running not in runtime.executions.all()
        assert len(runtime.executions.all()) == 2 - number


@pytest.mark.parametrize("message_id", [None, 5, b"x", [], {}, "", "x" * 600, "\ud800"])
def test_what_cannot_be_aborted_goes_through(runtime: BrokerRuntime, message_id: Any) -> None:
    """A message passes through although abort() does not accept its id."""
    assert process(runtime, message(message_id)) is None
    assert len(runtime.executions) == 0


def test_an_option_of_the_message_goes_before_all_others(runtime: BrokerRuntime) -> None:
    """A message's option overrides all others, by its truth value."""
    wanted = [process(runtime, message(abortable=each)) is not None for each in (True, 1, None, False, 0, "")]
    assert wanted == [True, True, True, False, False, False]


def test_a_message_asks_unless_it_is_quiet(runtime: BrokerRuntime) -> None:
    """A message asks the backend only if an event may be live."""
    asked = []

    class Backend(StubBackend):
        no_events_before: Any = math.inf

    class Skips:
        def skips(self, running: Execution) -> bool:
            asked.append(running.message_id)
            return False

    backend, binding = Backend(), Skips()
    for number, (watches, quiet) in enumerate(
        [(False, -math.inf), (True, math.inf), (True, -math.inf), (True, 0), (True, time.monotonic() + 1000)]
    ):
        runtime.worker_runtime = binding if watches else None  # type: ignore[assignment]
        runtime.hooks.backend = backend if watches else None
        backend.no_events_before = quiet
        process(runtime, message(str(number)))

    assert asked == ["2", "3"]


def test_hooks_of_a_subclass_are_called() -> None:
    """Hooks that a subclass overrides are called, despite all optimizations."""
    called = []

    class Mine(Abortable):
        def before_process_message(self, broker: Any, message: Any) -> None:
            called.append("before")
            super().before_process_message(broker, message)

        def after_process_message(self, broker: Any, message: Any, **words: Any) -> None:
            super().after_process_message(broker, message, **words)
            called.append("after")

    broker = stub_broker()
    broker.add_middleware(Mine(backend=StubBackend()))

    @dramatiq.actor(broker=broker)
    def task() -> None:
        called.append("task" if current.get() else "nothing")

    with working(broker) as worker:
        task.send()
        broker.join(task.queue_name)
        worker.join()

    assert called == ["before", "task", "after"]


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.usefixtures("broker")
def test_an_actor_looks_as_it_did(start_worker: Any, runs: bool) -> None:
    """An actor's function looks unchanged to introspection, in a worker and elsewhere."""

    def plain(x: int, *, y: str = "z") -> tuple[int, str]:
        """Return the arguments."""
        return x, y

    task = dramatiq.actor(plain)
    declared = task.fn
    if runs:
        start_worker()

    assert (task.fn is declared) == (not runs)
    assert task.fn is not plain
    assert weakref.ref(task.fn)() is task.fn
    assert inspect.unwrap(task.fn) is plain
    assert inspect.signature(task.fn) == inspect.signature(plain)
    assert (task.fn.__name__, task.fn.__doc__, task.fn.__module__) == ("plain", "Return the arguments.", __name__)
    assert repr(plain)[:9] in repr(task)
    assert task(1) == (1, "z")
    assert task.fn(1, y="a") == (1, "a")
    with pytest.raises(TypeError, match="plain"):
        task.fn()  # type: ignore[call-arg]


def test_what_an_async_actor_is_wrapped_in_is_called(broker: StubBroker, start_worker: Any) -> None:
    """Wrappers of an async actor are called, whenever they were added, and it remains async."""
    broker.add_middleware(AsyncIO())
    called = []

    @dramatiq.actor(max_retries=0)
    async def task() -> None:
        called.append("task")

    inner = task.fn

    def wrapper() -> Any:
        called.append("wrapper")
        return inner()

    task.fn = wrapper
    worker = start_worker()
    task.send()
    broker.join(task.queue_name)
    worker.join()

    assert called == ["wrapper", "task"]


def test_one_middleware_on_two_brokers() -> None:
    """One middleware works on a new broker in each test, as in a module."""
    middleware = Abortable(backend=StubBackend())
    begun = []
    for _ in range(2):
        broker = stub_broker()
        broker.add_middleware(middleware)

        @dramatiq.actor(broker=broker)
        def task() -> None:
            running = current.get()
            begun.append(running is not None and running.scope.is_here())

        with working(broker):
            task.send()
            broker.join(task.queue_name)

    assert begun == [True, True]


def test_options_of_another_kind_will_do(runtime: BrokerRuntime) -> None:
    """Options of any mapping type work, as other encoders may produce them."""
    proxy = message()
    proxy._message = dramatiq.Message("default", "task", (), {}, OrderedDict(x=1), message_id="x", message_timestamp=5)

    assert process(runtime, proxy) is not None


class Nasty(str):
    """A name that cannot be compared."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")


def test_a_name_that_cannot_be_compared_does_no_harm(runtime: BrokerRuntime) -> None:
    """A message whose actor name cannot be compared is removed from the table all the same."""
    for _ in range(2):
        process(runtime, message(queue=Nasty("default")))

    assert not runtime.hooks.by_id


def test_it_is_quiet_again(backend: EventBackend, make_backend: Callable[[], EventBackend]) -> None:
    """After the last event's time to live, messages no longer ask the backend."""
    caller = make_backend()

    def is_quiet() -> bool:
        backend.wait_many([b"x"], 1)
        return backend.no_events_before > time.monotonic()

    def hears(time_to_live: int) -> bool:
        caller.notify(b"a", time_to_live)
        return backend.wait_many([b"a"], time_to_live) == b"a"

    wait_until(is_quiet, "the quiet before")
    assert any(hears(50 * 2**number) for number in range(10))  # a busy machine may miss a shorter time
    assert backend.no_events_before == -math.inf
    wait_until(is_quiet, "the quiet")
