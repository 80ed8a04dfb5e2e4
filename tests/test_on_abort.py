"""The actor option on_abort: another actor receives the message and what happened."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from support import PATIENCE, result_of, run_forever

from dramatiq_abort import Abort, abort
from dramatiq_abort._worker.inspection import worker_name

if TYPE_CHECKING:
    from dramatiq.brokers.stub import StubBroker

pytestmark = pytest.mark.usefixtures("core")


@pytest.fixture
def told(broker: StubBroker) -> queue.SimpleQueue[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the messages that the actor ``tidy_up`` receives."""
    told: queue.SimpleQueue[tuple[dict[str, Any], dict[str, Any]]] = queue.SimpleQueue()

    @dramatiq.actor(abortable=False)
    def tidy_up(message: dict[str, Any], outcome: dict[str, Any]) -> None:
        told.put((message, outcome))

    return told


@pytest.mark.parametrize("where", ["actor", "message"])
def test_it_is_sent_a_message_that_ran(broker: StubBroker, start_worker: Any, told: Any, where: str) -> None:
    """An aborted running message is sent once, with its arguments, however the option was given."""
    started = threading.Event()

    @dramatiq.actor(**({"on_abort": "tidy_up"} if where == "actor" else {}))
    def task(*_: object) -> None:
        run_forever(started)

    start_worker()
    message = task.send_with_options(args=(1, "x"), **({"on_abort": "tidy_up"} if where == "message" else {}))
    assert started.wait(PATIENCE)
    abort(message.message_id, reason="enough", by="me")
    about, outcome = told.get(timeout=PATIENCE)

    assert (about["message_id"], about["actor_name"]) == (message.message_id, "task")
    assert list(about["args"]) == [1, "x"]
    assert (outcome["state"], outcome["reason"], outcome["by"]) == ("aborted", "enough", "me")
    assert (outcome["worker"], outcome["actor"]) == (worker_name(), "task")
    assert result_of(message)[0] == "Abort"
    broker.join("default")
    assert told.empty()


def test_it_is_sent_a_message_that_waited(broker: StubBroker, start_worker: Any, told: Any) -> None:
    """A skipped message is sent once, with its arguments."""

    @dramatiq.actor(on_abort="tidy_up")
    def task() -> None:
        raise AssertionError

    message = task.send()
    abort(message.message_id)
    start_worker()
    about, outcome = told.get(timeout=PATIENCE)

    assert (about["message_id"], outcome["state"]) == (message.message_id, "skipped")
    broker.join("default")
    assert told.empty()


@pytest.mark.parametrize("ends", ["by itself", "in an error", "in spite of it"])
def test_it_is_not_sent_one_that_was_not_aborted(broker: StubBroker, start_worker: Any, told: Any, ends: str) -> None:
    """A message that was not aborted is not sent, even if its abort was requested."""
    started = threading.Event()

    @dramatiq.actor(on_abort="tidy_up", max_retries=0)
    def task() -> None:
        if ends == "in spite of it":
            with pytest.raises(Abort):
                run_forever(started)
        if ends == "in an error":
            raise KeyError

    start_worker()
    message = task.send()
    if ends == "in spite of it":
        assert started.wait(PATIENCE)
        abort(message.message_id)
    result_of(message)
    broker.join("default")

    assert told.empty()


def test_an_actor_that_is_not_there_is_an_error_in_the_log(
    broker: StubBroker, start_worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """An unknown actor is an error in the log, and the message is aborted all the same."""

    @dramatiq.actor(on_abort="nobody")
    def task() -> None:
        raise AssertionError

    message = task.send()
    abort(message.message_id)
    start_worker()
    assert result_of(message) is None
    broker.join("default")

    assert f"Failed to send the on_abort message for message {message.message_id} of actor " in caplog.text
