"""Actors that do not stop: they catch the exception, or are where nothing can be raised."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.middleware import Middleware, SkipMessage
from support import (
    PATIENCE,
    configure,
    needs_gil,
    needs_interrupts,
    result_of,
    run_forever,
    wait_until,
    wait_until_it_waits,
)

from dramatiq_abort import Abort, Abortable, abort, shield

if TYPE_CHECKING:
    from dramatiq.brokers.stub import StubBroker

pytestmark = pytest.mark.usefixtures("core")


@pytest.mark.slow
@needs_interrupts
@pytest.mark.parametrize("says_so", ["middleware", "abort", "second abort"])
def test_an_abort_is_repeated_if_that_is_wanted(worker: dramatiq.Worker, abortable: Abortable, says_so: str) -> None:
    """With ``repeat_every``, a function that catches Abort and continues is interrupted repeatedly."""
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

    configure(abortable, repeat_every=200 if says_so == "middleware" else None)
    message = goes_on.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, repeat_every=200 if says_so == "abort" else None)
    if says_so == "second abort":
        wait_until(lambda: caught, "the first abort")
        abort(message.message_id, repeat_every=200)

    assert result_of(message)[0] == "Abort"
    assert len(caught) == 3


@needs_gil
def test_a_message_that_does_not_stop_is_reported(
    broker: StubBroker, abortable: Abortable, start_worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that does not stop is logged once, with the reason and its stack."""
    started, go_on = threading.Event(), threading.Lock()
    go_on.acquire()
    threads: list[threading.Thread] = []

    @dramatiq.actor
    def holds_out() -> str:
        with shield():
            threads.append(threading.current_thread())
            started.set()
            go_on.acquire()
        return "aborted at the end of the shield"

    def reports() -> list[str]:
        texts = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        return [text for text in texts if message.message_id in text]

    abortable.warn_after = 1
    start_worker()
    message = holds_out.send()
    assert started.wait(PATIENCE)
    wait_until_it_waits(threads[0])
    abort(message.message_id)
    wait_until(reports, "the report")
    go_on.release()

    assert result_of(message)[0] == "Abort"
    assert len(reports()) == 1
    assert re.search(r"holds_out should have stopped \d+\.\d s ago", reports()[0])
    assert "it is inside a shield" in reports()[0]
    assert "go_on.acquire()" in reports()[0]


def test_a_message_that_is_never_run_is_not_pursued(broker: StubBroker, start_worker: Any) -> None:
    """A requested message that another middleware skips leaves nothing scheduled."""
    aborted = threading.Event()

    class Skips(Middleware):
        def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:
            abort(message.message_id)
            wait_until(lambda: "dramatiq-abort scheduler" in {thread.name for thread in threading.enumerate()})
            aborted.set()
            raise SkipMessage

    @dramatiq.actor
    def skipped() -> None: ...

    broker.add_middleware(Skips())
    start_worker()
    skipped.send()
    assert aborted.wait(PATIENCE)

    wait_until(lambda: "dramatiq-abort scheduler" not in {thread.name for thread in threading.enumerate()})
