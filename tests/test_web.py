"""The web dashboard: what it shows, and what its forms do."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from support import PATIENCE, run_forever, wait_until, wait_until_requested

pytest.importorskip("flask")

from web_support import Site

from dramatiq_abort import (
    Abortable,
    OutcomeState,
    RunningMessage,
    Snapshot,
    WorkerProcess,
    abort,
    abort_all,
    abort_requested,
    abort_rules,
    running,
    wait_for_outcome,
)
from dramatiq_abort._worker.inspection import worker_name
from dramatiq_abort.backends import RedisBackend
from dramatiq_abort.web import _pages, application
from dramatiq_abort.web._display import moment, span

if TYPE_CHECKING:
    from dramatiq.brokers.stub import StubBroker
    from support import Server

    from dramatiq_abort import EventBackend

LONG = PATIENCE * 1000

stub_only = pytest.mark.parametrize("make_backend", ["stub"], indirect=True)


@pytest.fixture
def site(abortable: Abortable, broker: StubBroker, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(_pages, "_REPLY_WAIT", LONG)
    return Site(application())


@pytest.fixture
def running_task(broker: StubBroker, start_worker: Any) -> Any:
    """Starts messages, and returns them when they run."""
    started = threading.Semaphore(0)

    @dramatiq.actor(queue_name="pictures")
    def resize(*_: object) -> None:
        started.release()
        run_forever()

    start_worker()
    sent = []

    def start(*arguments: object) -> Any:
        sent.append(resize.send(*arguments))
        assert started.acquire(timeout=PATIENCE)
        return sent[-1]

    yield start
    abort(sent)
    broker.join("pictures")


def test_the_page_has_what_runs(site: Site, running_task: Any) -> None:
    """The message, its worker and its age; its arguments only if the application was made so."""
    message = running_task("a.png")
    page = site.ask().page

    assert message.message_id in page.codes
    for text in ("resize", "pictures", worker_name(), "running", " ago"):
        assert text in page.text
    assert "a.png" not in page.text
    assert "a.png" in Site(application(arguments=True)).ask().page.text


def test_a_message_is_aborted_and_its_outcome_is_shown(site: Site, running_task: Any) -> None:
    """By the form in its row, with the reason from the form and the user from the environment."""
    message = running_task()
    form = site.ask().page.form("abort", message.message_id)
    answer = site.send(form | {"reason": " <wrong> size "}, REMOTE_USER="Ann \xc3\x85")

    outcome = wait_for_outcome(message.message_id, timeout=LONG)
    assert (outcome.state, outcome.reason, outcome.by) == (OutcomeState.ABORTED, "<wrong> size", "Ann Å")
    page = site.follow(answer).page
    assert message.message_id in page.codes
    assert "aborted" in page.text
    assert "by Ann Å: <wrong> size" in page.text
    assert page.reload == f"5; url=./?asked={message.message_id}"


def test_an_abort_is_followed_until_it_is_known(site: Site, broker: StubBroker, start_worker: Any) -> None:
    """Until then, it can be restored."""

    @dramatiq.actor
    def task() -> None:
        raise AssertionError

    @dramatiq.actor
    def other_task() -> int:
        return 1

    message, other = task.send(), other_task.send()
    first = site.send(site.ask().page.typed | {"id": f" {message.message_id}\n", "reason": ""})
    second = site.follow(first).page
    assert "pending" in second.text
    both = site.send(second.typed | {"id": other.message_id})
    shown = site.follow(both).page
    assert shown.codes[:2] == [other.message_id, message.message_id]
    restored = site.send(shown.form("restore", other.message_id))
    shown = site.follow(restored).page
    assert "Restored: the abort no longer applies." in shown.text
    assert shown.codes == [message.message_id]
    late = site.follow(site.send(site.follow(both).page.form("restore", other.message_id))).page
    assert "There was nothing to restore" in late.text
    assert late.codes == [other.message_id, message.message_id]
    start_worker()
    broker.join("default")
    wait_for_outcome(message.message_id, timeout=LONG)

    assert "skipped" in site.ask(f"/?asked={message.message_id}").page.text
    assert abort_requested(other.message_id) is None


def test_what_is_to_be_aborted_says_so(site: Site, running_task: Any, abortable: Abortable) -> None:
    """With the requester; it can be aborted at once, or restored."""
    message = running_task()
    abort(message.message_id, abort_timeout=LONG, by="Ann")
    wait_until_requested(abortable, message)
    page = site.ask().page

    assert "abort pending" in page.text
    assert "by Ann" in page.text
    assert site.send(page.form("restore", message.message_id)).status_code == 303
    wait_until(lambda: running(timeout=LONG).messages[0].state == "running", "the restoring")
    assert site.send(page.form("abort", message.message_id)).status_code == 303
    assert wait_for_outcome(message.message_id, timeout=LONG).state is OutcomeState.ABORTED


def test_rules_are_listed_and_restored(site: Site) -> None:
    """Each with the messages that it matches and its reason."""
    rule = abort_all(actor="resize", tag="tenant-7", reason="it leaves")
    page = site.ask().page
    assert "actor resize and tag tenant-7" in page.text
    assert "reason: it leaves" in page.text
    answer = site.follow(site.send(page.form("restore", rule.id)))

    assert abort_rules() == []
    assert "tenant-7" not in answer.text


def test_workers_are_listed(
    site: Site, running_task: Any, backend: EventBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the unresponsive ones."""
    monkeypatch.setattr(_pages, "_REPLY_WAIT", 3_000)
    running_task()
    assert backend.reply_store is not None
    backend.reply_store.register(b'{"worker":"elsewhere:1"}', LONG)
    page = site.ask().page
    backend.reply_store.unregister(b'{"worker":"elsewhere:1"}')

    for text in ("elsewhere:1", worker_name(), "no reply", "1 of them did not reply"):
        assert text in page.text


@stub_only
def test_an_empty_page(site: Site) -> None:
    """It says that there are no workers."""
    assert "No workers are running." in site.ask().page.text


@stub_only
def test_the_page_renews_itself(site: Site) -> None:
    """By a meta element where JavaScript is off; not at all if it is paused, or never is the setting."""
    assert site.ask("/?said=restored").page.reload == "5; url=./"
    assert site.ask("/?asked=x").page.reload == "5; url=./?asked=x"
    paused = site.ask("/?paused=1&asked=x")
    assert paused.page.reload is None
    assert 'data-refresh="0"' in paused.text
    assert Site(application(refresh=0)).ask().page.reload is None


@stub_only
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": ""}, "a message id must have 1 to 506 bytes, not 0"),
        ({"id": "x" * 600}, "a message id must have 1 to 506 bytes"),
        ({"id": "x", "reason": "y" * 257}, "reason must have 1 to 256 characters"),
        ({"quoted": "%ff"}, "can't decode"),
        ({"quoted": "rule:" + "x" * 600, "action": "restore"}, "not the id of a rule"),
    ],
)
def test_what_cannot_be_asked_is_said(site: Site, change: dict[str, str], says: str) -> None:
    """In the words of the function's error."""
    answer = site.send(site.ask().page.typed | change)

    assert answer.status_code == 400
    assert "Nothing has been done: " in answer.page.text
    assert says in answer.page.text


@stub_only
def test_a_page_has_an_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows 500 messages, and counts the others."""
    messages = [RunningMessage(f"m{number}", "a", "q", "w", 0, 0, 0) for number in range(505)]
    snapshot = Snapshot(messages, [WorkerProcess("w", omitted=2, reply_ms=1)])
    monkeypatch.setattr(_pages, "running", lambda *_, **__: snapshot)
    page = site.ask().page

    assert page.codes[-1] == "m499"
    assert "7 more messages are not shown." in page.text


def test_times() -> None:
    """Durations have two units; a time that no calendar has is None."""
    assert [span(each) for each in (0, 1.4, 999, 1000, 61_000, 3_600_000, 90_061_000)] == [
        "0 ms",
        "1 ms",
        "999 ms",
        "1 s",
        "1 min 1 s",
        "1 h",
        "1 d 1 h",
    ]
    assert str(moment(1_000)) == "1970-01-01 00:00:01+00:00"
    assert moment(10**400) is moment(10**17) is None


# Failures.


@stub_only
def test_a_backend_that_is_down_is_said(
    site: Site, backend: EventBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With advice, and without the error, which is in the log; the page tries again."""
    form = site.ask().page.typed | {"id": "x"}

    def down(*_: object) -> None:
        raise ConnectionError("the password")

    monkeypatch.setattr(backend.reply_store, "workers", down)
    monkeypatch.setattr(backend, "signal", down)
    shown, sent = site.ask("/?asked=y"), site.send(form)

    for answer in (shown, sent):
        assert answer.status_code == 503
        assert "password" not in answer.text
        assert "Check that the Redis server is running" in answer.page.text
    assert shown.page.reload == "5; url=./?asked=y"
    assert "the password" in caplog.text


def test_a_server_that_is_down_and_comes_back(own_server: Server) -> None:
    """A real one: the page reports it, and works again afterwards."""
    site = Site(application(Abortable(backend=RedisBackend.from_url(own_server.url))))
    assert site.ask().status_code == 200
    own_server.kill()
    assert site.ask().status_code == 503
    own_server.start()
    assert site.ask().status_code == 200


@stub_only
def test_a_page_that_is_not_set_up_says_so(site: Site, backend: EventBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of the error."""
    monkeypatch.setattr(backend, "reply_store", None)
    answer = site.ask()
    assert answer.status_code == 500
    assert "StubBackend has no reply store" in answer.page.text
    dramatiq.set_broker(dramatiq.brokers.stub.StubBroker())
    assert "the default broker has no Abortable middleware" in site.ask().page.text


@stub_only
def test_no_traceback_is_shown(site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The log has it."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the password")

    monkeypatch.setattr(_pages, "running", fail)
    answer = site.ask()

    assert answer.status_code == 500
    assert "password" not in answer.text
    assert "RuntimeError: the password" in caplog.text


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"refresh": 0.5}, TypeError),
        ({"refresh": -1}, ValueError),
        ({"secret": "x" * 16}, TypeError),
        ({"secret": b"x"}, ValueError),
        ({"hosts": "localhost"}, TypeError),
    ],
)
def test_what_cannot_be_is_refused(parameters: Any, error: type[Exception]) -> None:
    """When the application is made."""
    with pytest.raises(error):
        application(**parameters)
