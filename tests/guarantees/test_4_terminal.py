"""Guarantee 4, aborts are final: an aborted message is not run again, and fails like one with an expected exception."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import threading
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.encoder import PickleEncoder
from dramatiq.middleware import Callbacks, Middleware, Retries
from support import PATIENCE, configure, result_of, run_forever, stub_broker, wait_for_request, wait_until, working

from dramatiq_abort import Abort, Abortable, EventBackend, abort, restore

if TYPE_CHECKING:
    from dramatiq import Broker
    from dramatiq.brokers.stub import StubBroker
    from dramatiq.results import Results
    from support import Hooks

pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.sanitized]


def test_an_aborted_message_calls_on_failure(worker: dramatiq.Worker) -> None:
    """(4) The ``on_failure`` callback of an aborted message runs, as after any failure."""
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
    """(4) A message fails as aborted, without a retry, if its function turns the abort into another exception."""
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


def test_what_is_raised_in_the_grace_period_is_not_retried(worker: dramatiq.Worker) -> None:
    """(4) A message that raises another exception in its grace period fails as aborted, without a retry."""
    started = threading.Event()
    calls: list[int] = []

    @dramatiq.actor(min_backoff=1, max_backoff=1)
    def task() -> None:
        calls.append(1)
        started.set()
        wait_for_request()
        raise ConnectionError("gave up")

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, abort_timeout=600_000)
    kind, text = result_of(message)
    worker.join()

    assert kind == "Abort"
    assert "ConnectionError" in text
    assert calls == [1]


def test_an_actors_own_throws_still_hold(worker: dramatiq.Worker) -> None:
    """(4) An actor's own ``throws`` keeps its effect."""

    @dramatiq.actor(throws=KeyError, min_backoff=1)
    def task() -> None:
        raise KeyError("expected")

    assert result_of(task.send())[0] == "KeyError"


def test_a_messages_own_throws_still_hold(worker: dramatiq.Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """(4) An aborted message with its own ``throws``, which an encoder must support, is not retried either."""
    monkeypatch.setattr("dramatiq.message.global_encoder", PickleEncoder())
    started = threading.Event()
    calls: list[int] = []

    @dramatiq.actor(min_backoff=1_000, max_backoff=1_000)
    def task() -> None:
        calls.append(1)
        run_forever(started)

    message = task.send_with_options(throws=(KeyError,))
    assert started.wait(PATIENCE)
    abort(message.message_id)
    assert result_of(message)[0] == "Abort"
    restore(message.message_id)  # or a retry would be skipped
    worker.join()

    assert calls == [1]


class Throws(Middleware):
    """Sets the option ``throws`` of every actor.

    Parameters:
      throws: The value to set.
      when: The hook in which to set it.
    """

    def __init__(self, throws: Any, when: str) -> None:
        self._throws = throws
        setattr(self, when, self._set)

    def _set(self, broker: Broker, *_: object, **__: object) -> None:
        for actor in broker.actors.values():
            actor.options["throws"] = self._throws


class Records(Middleware):
    """Records the options of a failed message and of its actor."""

    def __init__(self) -> None:
        self.options: list[Any] = []

    def after_process_message(self, broker: Broker, message: Any, **_: object) -> None:
        if message.actor_name == "task":  # the callback's message may end first
            self.options.append(json.loads(message.encode())["options"])
            self.options.append(dict(message.options))
            self.options.append(broker.actors[message.actor_name].options.get("throws"))


@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize("when", ["after_declare_actor", "after_worker_boot", "before_process_message"])
@pytest.mark.parametrize("throws", [None, KeyError, (KeyError, OSError)])
def test_throws_is_for_other_middleware_to_set(
    results: Results, where: str, when: str, throws: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """(4, 8) Other middleware may set ``throws`` at any time; an abort changes no options of message or actor."""
    caplog.set_level(logging.INFO)
    records = Records()
    broker = stub_broker(Retries(min_backoff=1, max_backoff=1), results, Throws(throws, when), records, Callbacks())
    broker.add_middleware(Abortable(), **({"before": Retries} if where == "first" else {}))
    dramatiq.set_broker(broker)
    started = threading.Event()
    calls: list[int] = []
    failures: list[dict[str, Any]] = []

    @dramatiq.actor(abortable=False)
    def failed(message: dict[str, Any], _: dict[str, str]) -> None:
        failures.append(message)

    @dramatiq.actor
    def task() -> None:
        calls.append(1)
        run_forever(started)

    with working(broker) as worker:
        message = task.send_with_options(on_failure="failed")
        assert started.wait(PATIENCE)
        abort(message.message_id)
        assert result_of(message)[0] == "Abort"
        wait_until(lambda: failures, "the failure callback")
        restore(message.message_id)  # or a retry would be skipped
        worker.join()

    assert calls == [1]
    assert failures[0]["options"] == {"on_failure": "failed"}
    assert records.options[:3] == [{"on_failure": "failed"}, {"on_failure": "failed"}, throws]
    assert "with expected exception Abort" in caplog.text


def test_an_aborted_messages_options_can_be_copied(worker: dramatiq.Worker, broker: StubBroker) -> None:
    """(4) An aborted message's options can be copied, encoded and written to."""
    started = threading.Event()
    copies: list[Any] = []

    class Copies(Middleware):
        def after_process_message(self, broker: Broker, message: Any, **_: object) -> None:
            message.options["note"] = "written"
            copies.extend(
                [
                    message.copy().options,
                    copy.copy(message.options),
                    copy.deepcopy(message.options),
                    pickle.loads(pickle.dumps(message.options)),  # noqa: S301 - our own data
                    json.loads(message.encode())["options"],
                ]
            )

    broker.add_middleware(Copies())

    @dramatiq.actor
    def task() -> None:
        run_forever(started)

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    assert result_of(message)[0] == "Abort"

    assert [(type(each), each) for each in copies] == [(dict, {"note": "written"})] * 5


def test_without_retries_an_abort_fails_too(backend: EventBackend, results: Results) -> None:
    """(4) An abort is stored in the result backend, although dramatiq itself stores no failure without Retries."""
    broker = stub_broker(results, Abortable(backend=backend))
    dramatiq.set_broker(broker)
    started = threading.Event()

    @dramatiq.actor
    def task() -> None:
        run_forever(started)

    with working(broker):
        message = task.send()
        assert started.wait(PATIENCE)
        abort(message.message_id)
        kind, _ = result_of(message)

    assert kind == "Abort"


def test_a_waiting_message_is_skipped(broker: StubBroker, start_worker: Any, hooks: Hooks) -> None:
    """(4, 5) A worker that starts after the abort acknowledges the message without calling its function."""
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
    assert hooks.of(message) == {("before", 1), ("skip", 1), ("ack", 1)}


def test_a_skipped_message_fails_if_that_is_wanted(broker: StubBroker, abortable: Abortable, start_worker: Any) -> None:
    """(4) With ``fail_skipped``, a skipped message fails, which distinguishes it from a success."""
    configure(abortable, fail_skipped=True)

    @dramatiq.actor
    def task() -> None: ...

    message = task.send()
    abort(message.message_id)
    start_worker()

    kind, text = result_of(message)
    assert kind == "AbortedBeforeStart"
    assert message.message_id in text
    assert [dead.message_id for dead in broker.dead_letters] == [message.message_id]


def test_an_aborted_message_that_is_delivered_again_is_skipped(worker: dramatiq.Worker, broker: StubBroker) -> None:
    """(4) An aborted message is skipped when it is redelivered."""
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
