"""Rules: abort_all(), abort_rules(), and restore() of a rule."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from support import PATIENCE, result_of, run_forever, running_in, wait_until

from dramatiq_abort import (
    AbortMode,
    AbortRule,
    BackendError,
    Event,
    InvalidOption,
    OutcomeState,
    UnsupportedByBackend,
    abort,
    abort_all,
    abort_rules,
    restore,
    shield,
    wait_for_outcome,
)
from dramatiq_abort._client.bulk import _MAX_RULES
from dramatiq_abort._protocol.rule import RULE, rule_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from dramatiq.brokers.stub import StubBroker

    from dramatiq_abort import Abortable, EventBackend

pytestmark = pytest.mark.usefixtures("core")

LONG = PATIENCE * 1000
SKIPPED, RAN = None, "ran"


@pytest.fixture
def actors(broker: StubBroker) -> dict[str, dramatiq.Actor[Any, Any]]:
    """Declare two actors in two queues, one with tags."""

    def run() -> str:
        return RAN

    return {
        "one": dramatiq.actor(run, actor_name="one"),
        "other": dramatiq.actor(run, actor_name="other", queue_name="other"),
        "tagged": dramatiq.actor(run, actor_name="tagged", abort_tags=["always"]),
    }


@pytest.mark.parametrize(
    ("rule", "skipped"),
    [
        ({"actor": "one"}, {"one", "one tagged", "one delayed"}),
        ({"queue": "default"}, {"one", "one tagged", "one delayed", "tagged"}),
        ({"queue": "other"}, {"other"}),
        ({"tag": "x"}, {"one tagged"}),
        ({"tag": "always"}, {"tagged"}),
        ({"actor": "one", "tag": "x"}, {"one tagged"}),
        ({"actor": "other", "queue": "default"}, set()),
    ],
)
def test_what_waits_and_matches_is_skipped(
    actors: dict[str, dramatiq.Actor[Any, Any]], start_worker: Any, rule: dict[str, str], skipped: set[str]
) -> None:
    """Waiting messages that match are skipped; messages enqueued afterwards are not, however soon."""
    before = {name: actor.send() for name, actor in actors.items()}
    before["one tagged"] = actors["one"].send_with_options(abort_tags=["x", "y"])
    before["one delayed"] = actors["one"].send_with_options(delay=1)
    abort_all(**rule)
    after = {name: actor.send() for name, actor in actors.items()}
    after["one tagged"] = actors["one"].send_with_options(abort_tags=["x", "y"])
    start_worker()

    assert {name for name, message in before.items() if result_of(message) is SKIPPED} == skipped
    assert {name for name, message in after.items() if result_of(message) is SKIPPED} == set()


def test_what_runs_is_interrupted(broker: StubBroker, start_worker: Any) -> None:
    """A running message that matches is interrupted, with the reason and an outcome."""
    started = threading.Semaphore(0)

    @dramatiq.actor
    def task() -> None:
        started.release()
        run_forever()

    start_worker()
    messages = [task.send() for _ in range(3)]
    for _ in messages:
        assert started.acquire(timeout=PATIENCE)
    abort_all(actor="task", reason="too many", by="me")

    for message in messages:
        assert result_of(message) == ("Abort", f"message {message.message_id} was aborted by me: too many")
        outcome = wait_for_outcome(message.message_id, timeout=LONG)
        assert (outcome.state, outcome.reason, outcome.by) == (OutcomeState.ABORTED, "too many", "me")


def test_what_runs_is_let_be_where_only_what_waits_is_cancelled(broker: StubBroker, start_worker: Any) -> None:
    """With CANCEL, running messages are left alone, as with abort()."""
    started, go_on = threading.Event(), threading.Event()

    @dramatiq.actor
    def task() -> str:
        started.set()
        assert go_on.wait(PATIENCE)
        return RAN

    start_worker(worker_threads=1)
    runs = task.send()
    assert started.wait(PATIENCE)
    waits = task.send()
    abort_all(actor="task", mode=AbortMode.CANCEL)
    go_on.set()

    assert result_of(runs) == RAN
    assert result_of(waits) is SKIPPED


def test_a_rule_is_listed_and_taken_back(actors: dict[str, dramatiq.Actor[Any, Any]], start_worker: Any) -> None:
    """A rule is listed, and restored by itself or by its id."""
    messages = [actor.send() for actor in actors.values()]
    made = [
        abort_all(actor="one", reason="why", by="who"),
        abort_all(queue="other", abort_timeout=7),
        abort_all(tag="always"),
    ]

    assert abort_rules() == made
    assert [str(rule) for rule in abort_rules()] == ["actor one", "queue other", "tag always"]
    assert all(rule.ttl is not None and 86_300_000 < rule.ttl <= 86_400_000 for rule in abort_rules())
    assert restore(made[0])
    assert not restore(made[0])
    assert restore(made[1].id)
    assert abort_rules() == [made[2]]
    start_worker()
    assert [result_of(message) for message in messages] == [RAN, RAN, SKIPPED]


def test_a_message_that_runs_is_restored_from_its_rule_alone(
    broker: StubBroker, start_worker: Any, abortable: Abortable
) -> None:
    """Restoring a rule does not restore a message's own request."""
    started, go_on = threading.Semaphore(0), threading.Event()

    @dramatiq.actor
    def task() -> str:
        with shield():
            started.release()
            assert go_on.wait(PATIENCE)
        return RAN

    start_worker()
    messages = [task.send() for _ in range(2)]
    for _ in messages:
        assert started.acquire(timeout=PATIENCE)
    abort(messages[0].message_id)
    wait_until(lambda: sum(running.request is not None for running in running_in(abortable).all()) == 1)
    rule = abort_all(actor="task")
    wait_until(lambda: sum(running.request is not None for running in running_in(abortable).all()) == 2)
    assert restore(rule)
    wait_until(lambda: sum(running.request is not None for running in running_in(abortable).all()) == 1)
    go_on.set()

    assert result_of(messages[0])[0] == "Abort"
    assert result_of(messages[1]) == RAN


def test_a_rule_ends_with_its_time(
    actors: dict[str, dramatiq.Actor[Any, Any]], start_worker: Any, backend: EventBackend
) -> None:
    """A rule ends with its time to live, like any request."""
    message = actors["one"].send()
    rule = abort_all(actor="one", abort_ttl=1)
    wait_until(lambda: backend.read(rule_key(rule.id)) is None)
    assert abort_rules() == []
    start_worker()

    assert result_of(message) == RAN


def test_a_worker_process_that_starts_later_knows_the_rules(
    actors: dict[str, dramatiq.Actor[Any, Any]], start_worker: Any, make_backend: Callable[[], EventBackend]
) -> None:
    """A worker with another backend object, started later, knows the rules."""
    message = actors["one"].send()
    rule = AbortRule(int(time.time() * 1000), actor="one")
    make_backend().signal([Event(rule_key(rule.id), rule.encode(), LONG)])
    start_worker()

    assert result_of(message) is SKIPPED


def test_a_stale_mirror_is_not_trusted_for_rules_either(
    actors: dict[str, dramatiq.Actor[Any, Any]],
    start_worker: Any,
    backend: EventBackend,
    make_backend: Callable[[], EventBackend],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a stale mirror, a message that starts asks the server for rules."""
    if not hasattr(backend, "_fresh_until"):
        pytest.skip("there is no mirror")
    start_worker()
    assert result_of(actors["one"].send()) == RAN
    monkeypatch.setattr("dramatiq_abort.backends.redis.backend._PATIENCE_OF_MESSAGES", 1000 * PATIENCE)
    stalled = threading.Event()

    def hear_no_more(*_: object) -> None:
        stalled.set()
        time.sleep(0.01)

    monkeypatch.setattr(backend, "receive", hear_no_more)
    assert stalled.wait(PATIENCE)
    monkeypatch.setattr(backend, "_fresh_until", 0.0)
    monkeypatch.setattr(backend, "no_events_before", 0.0)
    message = actors["one"].message()
    rule = AbortRule(int(time.time() * 1000), actor="one")
    make_backend().signal([Event(rule_key(rule.id), rule.encode(), LONG)])
    actors["one"].broker.enqueue(message)

    assert result_of(message) is SKIPPED


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({}, ValueError, "needs an actor, a queue or a tag"),
        ({"actor": ""}, ValueError, "actor must have 1 to 256 characters"),
        ({"queue": "x" * 257}, ValueError, "queue must have 1 to 256 characters"),
        ({"tag": 1}, TypeError, "tag must be a str"),
        ({"tag": "x", "abort_ttl": 0}, ValueError, "abort_ttl"),
        ({"tag": "x", "mode": "abort"}, TypeError, "mode must be an AbortMode"),
        ({"tag": "x", "abort_timeout": -1}, ValueError, "abort_timeout"),
        ({"tag": "x", "reason": ""}, ValueError, "reason"),
    ],
)
@pytest.mark.usefixtures("broker")
def test_what_cannot_be_a_rule_is_refused(options: dict[str, Any], error: type[Exception], says: str) -> None:
    """Invalid rules raise, and nothing is aborted."""
    with pytest.raises(error, match=says):
        abort_all(**options)
    assert abort_rules() == []


@pytest.mark.parametrize("tags", ["x", [1], {"x"}, 1])
def test_tags_that_are_none_are_refused(actors: dict[str, dramatiq.Actor[Any, Any]], tags: object) -> None:
    """Invalid tags of a message or an actor raise."""
    with pytest.raises(InvalidOption, match="abort_tags must be a list of str"):
        actors["one"].send_with_options(abort_tags=tags)
    with pytest.raises(InvalidOption, match="abort_tags must be a list of str"):
        dramatiq.actor(lambda: None, actor_name="new", abort_tags=tags)


@pytest.mark.usefixtures("broker")
def test_there_are_not_any_number_of_rules(backend: EventBackend) -> None:
    """The number of rules is limited, because each message is compared with all."""
    texts = [AbortRule(1, tag=str(number)) for number in range(_MAX_RULES)]
    for rule in texts:
        backend.signal([Event(rule_key(rule.id), rule.encode(), LONG)])

    with pytest.raises(ValueError, match="100 rules are in effect"):
        abort_all(actor="one")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[" * 100_000,
        b"\xff",
        b"[]",
        b"{}",
        json.dumps({"before": 10**15, "request": {}}).encode(),
        json.dumps({"before": 10**15, "actor": "", "request": {}}).encode(),
        json.dumps({"before": 10**15, "actor": ["one"], "request": {}}).encode(),
        json.dumps({"before": "now", "actor": "one", "request": {}}).encode(),
        json.dumps({"before": 10**15, "actor": "one", "request": []}).encode(),
        json.dumps({"before": 10**15, "actor": "one", "request": {"mode": "all"}}).encode(),
    ],
)
def test_what_is_no_rule_aborts_nothing(
    actors: dict[str, dramatiq.Actor[Any, Any]],
    start_worker: Any,
    backend: EventBackend,
    caplog: pytest.LogCaptureFixture,
    value: bytes,
) -> None:
    """A foreign value that is not a rule aborts nothing, and is logged."""
    backend.signal([Event(RULE + b"x", value[:8000], LONG)])
    start_worker()

    assert result_of(actors["one"].send()) == RAN
    assert abort_rules() == []
    assert "Ignoring the event with key b'all:rule:x'" in caplog.text


@pytest.mark.parametrize("made", ["now", None, float("nan"), 10**40])
def test_a_message_of_no_known_time_is_let_be(
    broker: StubBroker, start_worker: Any, caplog: pytest.LogCaptureFixture, made: Any
) -> None:
    """A message without a valid timestamp is left alone, waiting or running, and the watcher continues."""
    started = threading.Semaphore(0)

    @dramatiq.actor
    def task() -> None:
        started.release()
        run_forever()

    @dramatiq.actor
    def waits() -> str:
        return RAN

    start_worker()
    message = task.message().copy(message_timestamp=made)
    broker.enqueue(message)
    assert started.acquire(timeout=PATIENCE)
    abort_all(queue="default")
    waiting = waits.message().copy(message_timestamp=made)
    broker.enqueue(waiting)
    assert result_of(waiting) == RAN
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    assert wait_for_outcome(message.message_id, timeout=LONG).enqueued is None
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.usefixtures("broker")
def test_a_backend_that_cannot_tell_all_says_so(backend: EventBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend without broadcasts raises before it is used."""
    monkeypatch.setattr(type(backend), "supports_broadcast", False)

    with pytest.raises(UnsupportedByBackend, match="does not support broadcasts"):
        abort_all(actor="one")


@pytest.mark.usefixtures("broker")
def test_a_backend_that_does_not_answer_is_an_error(backend: EventBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that does not respond raises our error, with the cause."""
    monkeypatch.setattr(backend, "signal", lambda _: (_ for _ in ()).throw(ConnectionError("gone")))

    with pytest.raises(BackendError, match="the messages of actor one were not aborted: ConnectionError: gone"):
        abort_all(actor="one")
