"""Messages processed during another one on the same thread, with a broker that runs messages when sent."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.broker import MessageProxy
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Middleware, MiddlewareError, SkipMessage
from support import PATIENCE, needs_interrupts, result_of, run_forever, runtime_of

from dramatiq_abort import Abort, Abortable, abort, abort_requested
from dramatiq_abort._core.current import current, here

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dramatiq.results import Results

    from dramatiq_abort import EventBackend
    from dramatiq_abort._worker.execution import Execution

pytestmark = pytest.mark.usefixtures("core")


class EagerBroker(StubBroker):
    """Processes a message where a task sends it, in the same way as dramatiq's worker."""

    is_eager = threading.local()

    def enqueue(self, message: Any, *, delay: Any = None) -> Any:
        if here() is None and not getattr(self.is_eager, "value", False):
            return super().enqueue(message, delay=delay)
        proxy = MessageProxy(message)
        try:
            self.emit_before("process_message", proxy)
            result = None if proxy.failed else self.get_actor(message.actor_name)(*message.args, **message.kwargs)
            self.emit_after("process_message", proxy, result=result)
        except SkipMessage:
            self.emit_after("skip_message", proxy)
        except BaseException as error:
            self.emit_after("process_message", proxy, exception=error)
            raise
        return message


class Refuses(Middleware):
    """Refuses messages of some actors."""

    def __init__(self) -> None:
        self.names: dict[str, type[Exception]] = {}

    def before_process_message(self, broker: Any, message: Any) -> None:
        if (kind := self.names.get(message.actor_name)) is not None:
            raise kind("no")


@pytest.fixture
def broker(abortable: Abortable, results: Results) -> Iterator[EagerBroker]:
    broker = EagerBroker([results, abortable])
    broker.fail_fast_default = False
    dramatiq.set_broker(broker)
    yield broker
    dramatiq.set_broker(None)  # type: ignore[arg-type]
    broker.close()


def names(running: Execution | None) -> list[str]:
    """Return the actors of a message and of the messages around it."""
    return [] if running is None else [running.actor_name, *names(running.outer)]


def is_empty(abortable: Abortable) -> bool:
    """Return whether the table contains no message."""
    runtime = runtime_of(abortable)
    return not runtime.executions.all()


@needs_interrupts
@pytest.mark.parametrize("ends", ["returns", "fails", "is skipped", "is refused", "cannot be aborted", "is its own"])
@pytest.mark.parametrize("is_first", [False, True])
def test_the_outer_one_is_current_again(
    broker: EagerBroker, abortable: Abortable, start_worker: Any, ends: str, is_first: bool
) -> None:
    """The outer message is current and can be aborted again, however the inner one ends."""
    started = threading.Event()
    found: list[Any] = []
    refuses = Refuses()
    broker.add_middleware(refuses, **({"before": Abortable} if is_first else {"after": Abortable}))
    refuses.names = {"is skipped": {"inner": SkipMessage}, "is refused": {"inner": MiddlewareError}}.get(ends, {})

    @dramatiq.actor(abortable=ends != "cannot be aborted")
    def inner() -> None:
        found.append(names(here()))
        if ends == "fails":
            raise ValueError

    @dramatiq.actor
    def outer(depth: int = 0) -> None:
        if depth:
            found.append(names(here()))
            return
        try:
            outer.send(1) if ends == "is its own" else inner.send()
        except (ValueError, MiddlewareError) as error:
            found.append(type(error))
        found.append(names(here()))
        run_forever(started)

    worker = start_worker()
    message = outer.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    outcome = result_of(message)
    worker.join()

    assert outcome == ("Abort", f"message {message.message_id} was aborted")
    assert (
        found
        == {
            "returns": [["inner", "outer"], ["outer"]],
            "fails": [["inner", "outer"], ValueError, ["outer"]],
            "is skipped": [["outer"]],
            "is refused": [MiddlewareError, ["outer"]],
            "cannot be aborted": [["outer"], ["outer"]],
            "is its own": [["outer", "outer"], ["outer"]],
        }[ends]
    )
    assert is_empty(abortable)


@needs_interrupts
def test_each_is_aborted_by_itself(broker: EagerBroker, abortable: Abortable, start_worker: Any) -> None:
    """An aborted inner message ends, and the outer one handles that exception and continues."""
    started = threading.Event()
    sent: list[Any] = []

    @dramatiq.actor
    def inner() -> None:
        run_forever(started)

    @dramatiq.actor
    def outer() -> str:
        sent.append(inner.message())
        try:
            broker.enqueue(sent[0])
        except Abort as aborted:
            assert aborted.message_id == sent[0].message_id
        assert abort_requested() is None
        return "went on"

    worker = start_worker()
    message = outer.send()
    assert started.wait(PATIENCE)
    abort(sent[0].message_id)

    assert result_of(message) == "went on"
    worker.join()
    assert is_empty(abortable)


@needs_interrupts
def test_an_abort_of_the_outer_one_ends_both(broker: EagerBroker, abortable: Abortable, start_worker: Any) -> None:
    """An abort of the outer message ends both, and names the outer one."""
    started = threading.Event()
    seen = []

    @dramatiq.actor
    def inner() -> None:
        run_forever(started)

    @dramatiq.actor
    def outer() -> None:
        try:
            inner.send()
        except Abort as aborted:
            seen.append(aborted.message_id)
            raise

    worker = start_worker()
    message = outer.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")
    assert seen == [message.message_id]
    worker.join()
    assert is_empty(abortable)


def test_one_whose_processing_breaks_off_is_let_go_of(
    broker: EagerBroker, abortable: Abortable, start_worker: Any
) -> None:
    """A message whose processing breaks off, in a broker or hook, leaves the table with the outer one."""
    found = []

    @dramatiq.actor
    def inner() -> None: ...

    @dramatiq.actor
    def outer() -> str:
        for _ in range(2):
            broker.emit_before("process_message", MessageProxy(inner.message()))
        found.append(names(here()))
        return "done"

    worker = start_worker(worker_threads=1)

    assert result_of(outer.send()) == "done"
    worker.join()
    assert found == [["inner", "inner", "outer"]]
    assert is_empty(abortable)

    @dramatiq.actor
    def later() -> list[str]:
        return names(here())

    assert result_of(later.send()) == ["later"]


@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("is_abortable", [False, True])
def test_one_that_another_hook_sends(
    broker: EagerBroker, abortable: Abortable, start_worker: Any, is_first: bool, is_abortable: bool
) -> None:
    """A message sent by another hook, before or after processing (as by on_success), changes nothing."""
    found: list[Any] = []

    class Sends(Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            self._send(message)

        def after_process_message(self, broker: Any, message: Any, **_: Any) -> None:
            self._send(message)

        def _send(self, message: Any) -> None:
            if message.actor_name == "task":
                before = here()
                broker.is_eager.value = True
                try:
                    other.send()
                finally:
                    del broker.is_eager.value
                found.append(here() is before)

    broker.add_middleware(Sends(), **({"before": Abortable} if is_first else {"after": Abortable}))

    @dramatiq.actor(abortable=is_abortable)
    def other() -> None: ...

    @dramatiq.actor
    def task() -> list[str]:
        return names(here())

    worker = start_worker(worker_threads=1)
    results = [result_of(task.send()) for _ in range(2)]
    worker.join()

    assert results == [["task"], ["task"]]
    assert found == [True] * 4
    assert is_empty(abortable)
    assert current.get() is None


def test_a_message_that_is_not_taken_leaves_the_outer_one(backend: EventBackend) -> None:
    """Hooks called for a refused message or another broker's leave the outer message in the table."""
    abortable = Abortable(backend=backend)
    broker = EagerBroker([abortable])

    @dramatiq.actor(broker=broker)
    def task() -> None: ...

    worker = dramatiq.Worker(broker, worker_threads=1)
    broker.emit_before("worker_boot", worker)
    outer, other = MessageProxy(task.message()), MessageProxy(task.message())
    try:
        broker.emit_before("process_message", outer)
        for signal in ("skip_message", "process_message"):
            broker.emit_after(signal, other)
            assert names(here()) == ["task"]
            assert not is_empty(abortable)
        broker.emit_after("process_message", MessageProxy(outer._message))  # decoded again
        assert is_empty(abortable)
        assert here() is None
    finally:
        broker.emit_after("worker_shutdown", worker)
