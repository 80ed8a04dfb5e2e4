"""Reports of outcomes to operators: fields of log records, on_outcome, and Prometheus."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import urllib.error
import urllib.request
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from support import PATIENCE, free_port, run_forever, told, wait_until

from dramatiq_abort import Abort, Abortable, Outcome, OutcomeState, abort, wait_for_outcome
from dramatiq_abort._worker.execution import Execution

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from dramatiq.brokers.stub import StubBroker

    from dramatiq_abort import EventBackend

LONG = PATIENCE * 1000


def aborted(start_worker: Any, *, fails: bool = False) -> Outcome:
    """Abort a running message."""
    started = threading.Event()

    @dramatiq.actor
    def task() -> None:
        try:
            run_forever(started)
        except Abort:
            if fails:
                raise KeyError from None
            raise

    start_worker()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, reason="enough", by="me")
    return wait_for_outcome(message.message_id, timeout=LONG)


@pytest.mark.parametrize("fails", [False, True])
def test_lines_in_the_log_have_fields(
    broker: StubBroker, start_worker: Any, caplog: pytest.LogCaptureFixture, *, fails: bool
) -> None:
    """Log records have fields for programs that process logs."""
    caplog.set_level(logging.INFO)
    outcome = aborted(start_worker, fails=fails)

    def found() -> list[Any]:
        ours = [record for record in caplog.records if record.name.startswith("dramatiq_abort")]
        return [record for record in ours if outcome.message_id in record.getMessage()]

    wait_until(lambda: any(line.getMessage().startswith("Aborting message") for line in found()))
    lines = found()
    for line in lines:
        assert (line.message_id, line.actor, line.reason, line.by) == (outcome.message_id, "task", "enough", "me")
    (last,) = [line for line in lines if hasattr(line, "outcome")]
    assert (last.outcome, last.latency_ms) == (outcome.state.value, outcome.latency)
    name = f"Message {outcome.message_id} of actor task had an abort request. Outcome: "
    says = "failed with KeyError." if fails else f"aborted after {outcome.latency:.1f} ms."
    assert last.message == name + says


@pytest.fixture
def abortable(backend: EventBackend, request: pytest.FixtureRequest) -> Abortable:
    """Return an Abortable with a listener."""
    return Abortable(backend=backend, on_outcome=getattr(request, "param", None))


heard: list[Outcome] = []


@pytest.mark.parametrize("abortable", [heard.append], indirect=True)
def test_who_wants_to_hear_of_outcomes_does(broker: StubBroker, start_worker: Any) -> None:
    """A listener is called once with each outcome, before callers receive it."""
    heard.clear()
    outcome = aborted(start_worker)

    assert heard == [outcome]


@pytest.mark.parametrize("abortable", [heard.append], indirect=True)
def test_who_asks_twice_is_told_once(broker: StubBroker, start_worker: Any) -> None:
    """A repeated request reports one outcome, with the first request's reason."""
    heard.clear()

    @dramatiq.actor
    def task() -> None:
        pass

    start_worker(worker_threads=1)
    message, last = task.send(), task.send()
    broker.join("default")
    for reason in ("first", "second"):
        abort(message.message_id, reason=reason)
        assert wait_for_outcome(message.message_id, timeout=LONG).reason == "first"
    abort(last.message_id)

    assert wait_for_outcome(last.message_id, timeout=LONG).is_known
    assert wait_for_outcome(message.message_id, timeout=0).reason == "first"
    assert [outcome.message_id for outcome in heard] == [message.message_id, last.message_id]


def test_an_error_of_ours_is_in_nobodys_way(
    broker: StubBroker, start_worker: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The watcher logs an internal error, and passes on later requests."""
    accept, errors = Execution.accept, [KeyError("an unexpected failure")]

    def fails_once(running: Execution, *arguments: Any) -> bool:
        if errors:
            raise errors.pop()
        return accept(running, *arguments)

    monkeypatch.setattr(Execution, "accept", fails_once)
    started = threading.Semaphore(0)

    @dramatiq.actor
    def task() -> None:
        started.release()
        run_forever()

    start_worker()
    messages = [task.send() for _ in range(2)]
    for _ in messages:
        assert started.acquire(timeout=PATIENCE)
    abort(messages[0].message_id)
    wait_until(lambda: not errors)
    abort(messages[1].message_id)
    assert wait_for_outcome(messages[1].message_id, timeout=LONG).state is OutcomeState.ABORTED
    abort(messages[0].message_id)
    assert wait_for_outcome(messages[0].message_id, timeout=LONG).state is OutcomeState.ABORTED

    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "Unexpected failure while handling the event" in line.message


def fail(_: Outcome) -> None:
    raise KeyError("nobody cares")


@pytest.mark.parametrize("abortable", [fail], indirect=True)
def test_who_fails_to_hear_is_an_error_in_the_log(
    broker: StubBroker, start_worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A listener that raises only causes an error in the log."""
    assert aborted(start_worker).state is OutcomeState.ABORTED
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "Unexpected failure in outcome listener <function fail" in line.message


def test_who_cannot_hear_is_refused() -> None:
    """A listener that is not callable raises at once."""
    with pytest.raises(TypeError, match="on_outcome must be callable"):
        Abortable(on_outcome="print")  # type: ignore[arg-type]


@pytest.fixture
def prometheus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Return the URL of dramatiq's metrics; its middleware runs in the workers, not in this process."""
    if find_spec("prometheus_client") is None:
        pytest.skip("prometheus_client is not installed")
    port = free_port()
    monkeypatch.setenv("TEST_PROMETHEUS", "1")
    monkeypatch.setenv("dramatiq_prom_db", str(tmp_path / "prometheus"))
    monkeypatch.setenv("dramatiq_prom_host", "127.0.0.1")
    monkeypatch.setenv("dramatiq_prom_port", str(port))
    return f"http://127.0.0.1:{port}"


@pytest.mark.slow
def test_prometheus_counts(prometheus: str, app: ModuleType, start_processes: Any) -> None:
    """Our metrics are exposed by dramatiq's server next to its own."""
    start_processes()
    messages = [app.run.send(f"{app.broker.namespace}-{number}") for number in range(3)]
    for message in messages:
        told(app, message.args[0])
        abort(message.message_id)
    skipped = app.run.message("x")
    abort(skipped.message_id)
    app.broker.enqueue(skipped)
    for message in (*messages, skipped):
        assert wait_for_outcome(message.message_id, timeout=LONG).is_known

    def shown() -> str:
        try:
            with urllib.request.urlopen(prometheus, timeout=PATIENCE) as page:  # noqa: S310 - this machine's own
                return str(page.read(), "utf-8")
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError:  # its process has not started
            return ""

    def counted() -> dict[str, float]:
        return {name: float(count) for name, count in re.findall(r"^(dramatiq_\S+) (\S+)$", shown(), re.MULTILINE)}

    labels = 'actor_name="run",'
    by_outcome = [
        f'dramatiq_aborts_total{{{labels}outcome="{word}",queue_name="default"}}' for word in ("aborted", "skipped")
    ]
    # A process that receives the request too late to skip the last message aborts it.
    total = f'dramatiq_messages_total{{{labels}queue_name="default"}}'
    wait_until(lambda: sum(counted().get(name, 0) for name in by_outcome) == counted().get(total) == 4, "the outcomes")
    counts = counted()
    assert counts[by_outcome[0]] >= 3
    assert counts[f'dramatiq_abort_latency_milliseconds_count{{{labels}queue_name="default"}}'] == counts[by_outcome[0]]


def test_nothing_is_counted_where_nobody_wants_it(
    broker: StubBroker, start_worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dramatiq's middleware, nothing is counted, and the client is not imported."""
    monkeypatch.delitem(sys.modules, "prometheus_client", raising=False)
    aborted(start_worker)

    assert "prometheus_client" not in sys.modules
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
