"""Reason and requester: what abort() accepts, and where they can be read."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.middleware import AsyncIO
from support import PATIENCE, configure, needs_interrupts, result_of, run_forever, wait_until

from dramatiq_abort import Abort, Abortable, AbortRequest, abort
from dramatiq_abort._protocol.request import MAX_TEXT, MAX_VALUE

if TYPE_CHECKING:
    from dramatiq.brokers.stub import StubBroker

    from dramatiq_abort import EventBackend

pytestmark = pytest.mark.usefixtures("core")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({}, ""),
        ({"reason": "wrong input"}, ": wrong input"),
        ({"by": "Ann"}, " by Ann"),
        ({"by": "Ann", "reason": "wrong input"}, " by Ann: wrong input"),
        ({"by": "a\nb", "reason": "\x1b[31mred\x00\u2028"}, " by a\\nb: \\x1b[31mred\\x00\\u2028"),
        ({"by": "Änne", "reason": "falsch 🙁"}, " by Änne: falsch 🙁"),
    ],
)
@needs_interrupts
def test_a_running_message_is_told(
    words: dict[str, str], said: str, broker: StubBroker, start_worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The exception, the log and the stored failure contain them, with control characters escaped."""
    caplog.set_level("INFO")
    started = threading.Event()
    seen: list[Any] = []

    @dramatiq.actor
    def task() -> None:
        try:
            run_forever(started)
        except Abort as aborted:
            seen.append((aborted.message_id, aborted.by, aborted.reason, str(aborted)))
            raise

    start_worker()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, **words)  # type: ignore[arg-type]

    text = f"message {message.message_id} was aborted{said}"
    assert result_of(message) == ("Abort", text)
    assert seen == [(message.message_id, words.get("by"), words.get("reason"), text)]
    line = f"Aborting message {message.message_id} of actor task{said}."
    wait_until(lambda: line in caplog.messages, "the line in the log")


def test_a_coroutine_is_told(broker: StubBroker, start_worker: Any) -> None:
    """A coroutine's exception and failure contain them."""
    broker.add_middleware(AsyncIO())
    started = threading.Event()
    seen: list[Any] = []

    @dramatiq.actor
    async def task() -> None:
        import asyncio

        started.set()
        try:
            await asyncio.Event().wait()
        except Abort as aborted:
            seen.append((aborted.by, aborted.reason))
            raise

    start_worker()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, by="Ann", reason="wrong input")

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted by Ann: wrong input")
    assert seen == [("Ann", "wrong input")]


@needs_interrupts
def test_what_it_makes_of_the_abort_does_not_hide_it(broker: StubBroker, start_worker: Any) -> None:
    """The failure contains them and the exception that the function raised instead."""
    started = threading.Event()

    @dramatiq.actor
    def task() -> None:
        try:
            run_forever(started)
        except Abort:
            raise OSError("disk") from None

    start_worker()
    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, by="Ann")

    text = f"message {message.message_id} was aborted by Ann, and then raised OSError"
    assert result_of(message) == ("Abort", text)


def test_a_skipped_message_says_it(broker: StubBroker, abortable: Abortable, start_worker: Any) -> None:
    """With ``fail_skipped``, a skipped message's stored failure contains them."""
    configure(abortable, fail_skipped=True)

    @dramatiq.actor
    def task() -> None: ...

    messages = [task.message() for _ in range(3)]
    abort(messages, by="Ann", reason="wrong input")
    for message in messages:
        broker.enqueue(message)
    start_worker()

    for message in messages:
        text = f"message {message.message_id} was aborted before its start by Ann: wrong input"
        assert result_of(message) == ("AbortedBeforeStart", text)


@pytest.mark.parametrize("name", ["reason", "by"])
@pytest.mark.parametrize(
    ("said", "error"),
    [(b"x", TypeError), (1, TypeError), ("", ValueError), ("x" * 257, ValueError), ("\ud800", ValueError)],
)
def test_what_cannot_be_said_is_refused(name: str, said: Any, error: type[Exception], backend: EventBackend) -> None:
    """Invalid texts raise before any message is aborted."""
    with pytest.raises(error, match=name):
        abort("id", Abortable(backend=backend), **{name: said})

    assert not backend.poll(b"abort:id")


@pytest.mark.parametrize("character", ["x", "\x00", "\x1f", '"', "\\", "ä", "\u2028", "🙁"])
def test_whatever_is_said_has_room(character: str) -> None:
    """Texts of the maximal length fit into a request, however they are encoded."""
    request = AbortRequest(
        reason=character * MAX_TEXT, by=character * MAX_TEXT, grace=10**12, ttl=10**12, repeat=10**12
    )

    assert len(request.encode()) <= MAX_VALUE
    assert AbortRequest.decode(request.encode()) == request


@pytest.mark.parametrize("said", [b"1", b"[]", b'""', b'"' + b"x" * 257 + b'"', b'"\\ud800"', b"null"])
def test_an_abort_is_not_lost_for_what_is_said_of_it(said: bytes) -> None:
    """An invalid text in a foreign request is dropped, and the abort takes effect."""
    assert AbortRequest.decode(b'{"grace":5,"ttl":10,"reason":%b,"by":%b}' % (said, said)) == AbortRequest(
        grace=5, ttl=10
    )
