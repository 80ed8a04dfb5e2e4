"""running(): the replies of workers with their running messages."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.broker import MessageProxy
from dramatiq.brokers.stub import StubBroker
from support import PATIENCE, told, wait_until, wait_until_requested

from dramatiq_abort import Abortable, BackendError, RunningMessage, UnsupportedByBackend, abort, interrupt, running
from dramatiq_abort._protocol.snapshot import WorkerProcess, answer_of, worker_of
from dramatiq_abort._worker.broker_runtime import BrokerRuntime
from dramatiq_abort._worker.inspection import Inspection, worker_name
from dramatiq_abort.backends import StubBackend

if TYPE_CHECKING:
    from types import ModuleType

    from dramatiq_abort import EventBackend

LONG = PATIENCE * 1000


def test_what_runs_is_listed(broker: StubBroker, start_worker: Any, abortable: Abortable) -> None:
    """Running messages are listed with their pending aborts, and with their arguments on request."""
    started, go_on = threading.Semaphore(0), threading.Event()

    @dramatiq.actor(queue_name="pictures")
    def resize(*_: object, **__: object) -> None:
        started.release()
        assert go_on.wait(PATIENCE)

    start_worker()
    wait_until(lambda: running(timeout=LONG).workers, "the worker's entry")
    assert len(running(timeout=LONG)) == 0
    before = int(time.time() * 1000)
    first = resize.send("a.png", 10 * "long " * 100, width=100)
    assert started.acquire(timeout=PATIENCE)
    second = resize.send()
    assert started.acquire(timeout=PATIENCE)
    abort(second.message_id, abort_timeout=LONG, reason="wrong size", by="me")
    wait_until_requested(abortable, second)
    snapshot = running(timeout=LONG)
    told_more = running(timeout=LONG, arguments=True)
    go_on.set()

    assert [message.message_id for message in snapshot] == [first.message_id, second.message_id]
    one, other = snapshot
    assert (one.actor, one.queue, one.worker, one.state) == ("resize", "pictures", worker_name(), "running")
    assert (one.enqueued, one.grace_left, one.reason, one.by) == (first.message_timestamp, None, None, None)
    assert before - 1 <= one.started <= int(time.time() * 1000)
    assert 0 <= one.age <= time.time() * 1000 - before + 1
    assert one.arguments is None
    assert (other.state, other.reason, other.by) == ("to be aborted", "wrong size", "me")
    assert other.grace_left is not None
    assert 0 < other.grace_left <= LONG
    assert told_more.messages[0].arguments is not None
    assert told_more.messages[0].arguments[0] == "'a.png'"
    assert len(told_more.messages[0].arguments[1]) == 200
    assert told_more.messages[0].arguments[2] == "width=100"
    (worker,) = snapshot.workers
    assert (worker.worker, worker.core, worker.dramatiq) == (
        worker_name(),
        interrupt.IMPLEMENTATION,
        dramatiq.__version__,
    )
    assert worker.reply_ms is not None
    assert worker.now is not None
    assert not snapshot.unresponsive
    assert json.loads(json.dumps(one.asdict()))["state"] == "running"
    assert json.loads(json.dumps(worker.asdict()))["worker"] == worker_name()


class Nasty:
    """An object whose repr fails."""

    def __repr__(self) -> str:
        raise KeyError


def test_arguments_are_shown_whatever_they_are() -> None:
    """Any arguments are shown, within a size limit that applies before they are formatted."""
    broker, abortable = StubBroker(), Abortable(backend=StubBackend())
    runtime = BrokerRuntime(broker, abortable.backend, abortable.settings())
    arguments = (Nasty(), ["x" * 100] * 10**6, "y" * 10**6)
    message = dramatiq.Message("default", "task", arguments, {"z": {}}, {})
    hooks, proxy = runtime.hooks, MessageProxy(message)
    hooks.before_process_message(broker, proxy)
    (said,) = json.loads(Inspection(runtime.executions).answer("x", arguments=True).text)["messages"]
    hooks.after_process_message(broker, proxy)

    assert said["arguments"][0].startswith("<Nasty instance at")
    assert [len(shown) for shown in said["arguments"][1:3]] == [200, 200]
    assert said["arguments"][3] == "z={}"


@pytest.mark.slow
def test_who_does_not_answer_is_named(broker: StubBroker, start_worker: Any, backend: EventBackend) -> None:
    """A worker that does not reply is listed as unresponsive until its entry expires."""
    start_worker()
    wait_until(lambda: running(timeout=LONG).workers, "the worker's entry")
    assert running(timeout=LONG).unresponsive == []
    assert backend.reply_store is not None
    backend.reply_store.register(b'{"worker":"elsewhere:1","core":1}', LONG)
    snapshot = running(timeout=2_000)

    assert snapshot.unresponsive == [WorkerProcess("elsewhere:1")]
    assert [worker.worker for worker in snapshot.workers if worker.reply_ms is not None] == [worker_name()]
    backend.reply_store.unregister(b'{"worker":"elsewhere:1","core":1}')
    assert running(timeout=LONG).unresponsive == []


def test_a_worker_that_stops_leaves_the_roll(broker: StubBroker, start_worker: Any) -> None:
    """A worker that stops removes its entry at once."""
    start_worker().stop(timeout=LONG)

    assert running(timeout=0).workers == []


@pytest.mark.slow
def test_real_worker_processes_answer(app: ModuleType, start_processes: Any) -> None:
    """Each real worker process replies for itself."""
    start_processes()
    messages = [app.run.send(f"{app.broker.namespace}-{number}") for number in range(4)]
    for message in messages:
        told(app, message.args[0])
    wait_until(lambda: len(running(timeout=LONG).workers) == 2, "the second process")
    snapshot = running(timeout=LONG)
    for message in messages:
        abort(message.message_id)

    assert sorted(each.message_id for each in snapshot) == sorted(message.message_id for message in messages)
    assert len(snapshot.workers) == 2
    assert {each.worker for each in snapshot} <= {worker.worker for worker in snapshot.workers}


@pytest.mark.usefixtures("broker")
@pytest.mark.parametrize(("timeout", "error"), [(0.5, TypeError), (-1, ValueError)])
def test_what_cannot_be_asked_is_refused(timeout: Any, error: type[Exception]) -> None:
    """Invalid arguments of running() raise at once."""
    with pytest.raises(error):
        running(timeout=timeout)


@pytest.mark.usefixtures("broker")
def test_a_backend_that_cannot_is_an_error(backend: EventBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend without support, or one that fails, raises our error, with the cause if there is one."""
    with monkeypatch.context() as patch:
        patch.setattr(backend, "reply_store", None)
        with pytest.raises(UnsupportedByBackend, match="has no reply store"):
            running()
    monkeypatch.setattr(backend.reply_store, "workers", lambda: (_ for _ in ()).throw(ConnectionError("gone")))
    with pytest.raises(BackendError, match="could not be asked for their running messages: ConnectionError: gone"):
        running()


@pytest.mark.parametrize("entry", [b"", b"\xff", b"[]", b"{", b"[" * 100_000, b'{"worker":1,"new":2}'])
def test_what_is_no_entry_on_the_roll_is_shown_as_it_is(entry: bytes) -> None:
    """A foreign entry in the list of workers is shown unchanged: any program can write there."""
    assert worker_of(entry) == WorkerProcess(f"{entry[:80]!r}")


GOOD = {"message_id": "x", "actor": "a", "queue": "q", "enqueued": 1, "started": 2}


@pytest.mark.parametrize(
    ("answer", "messages"),
    [
        (b"", []),
        (b"[]", []),
        (b"{}", []),
        (json.dumps({"now": "x", "omitted": 0, "messages": []}).encode(), []),
        (json.dumps({"now": 5, "omitted": 0, "messages": {}}).encode(), []),
        (
            json.dumps(
                {"now": 5, "omitted": 0, "messages": [1, {}, GOOD | {"actor": 1}, GOOD | {"started": "2"}, GOOD]}
            ).encode(),
            [RunningMessage("x", "a", "q", "w", 1, 2, 3)],
        ),
        (
            json.dumps(
                {
                    "now": 1,
                    "omitted": 0,
                    "messages": [GOOD | {"grace_left": 0, "by": "me", "reason": 1, "arguments": [1]}],
                }
            ).encode(),
            [RunningMessage("x", "a", "q", "w", 1, 2, 0, grace_left=0, by="me", arguments=("1",))],
        ),
    ],
)
def test_what_is_no_answer_is_left_out(answer: bytes, messages: list[RunningMessage]) -> None:
    """A foreign reply is ignored: any program can write there."""
    assert answer_of(WorkerProcess("w"), answer, 1.0)[1] == messages


def test_the_state_says_what_becomes_of_it() -> None:
    """A message's state describes its pending abort in one word."""
    words = ("x", "a", "q", "w", 1, 2, 3)
    assert [RunningMessage(*words, grace_left=left).state for left in (None, 1, 0)] == [
        "running",
        "to be aborted",
        "aborting",
    ]
