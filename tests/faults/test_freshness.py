"""The maximal age of a worker's knowledge: a second, while the server responds."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from fault_support import NOISE
from support import PATIENCE, result_of, wait_until

from dramatiq_abort import Abortable, AbortMode
from dramatiq_abort.backends import RedisBackend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fault_support import Bench, Proxy
    from support import Server

pytestmark = [pytest.mark.main_interpreter, pytest.mark.newest_dependencies]


@contextmanager
def stalled(bench: Bench) -> Iterator[None]:
    """Block the worker's watcher in a slow log handler."""
    stands_still, go_on = threading.Event(), threading.Event()

    class Stuck(logging.Handler):
        def createLock(self) -> None:  # noqa: N802 - the base class's
            self.lock = None  # no other thread waits for it

        def emit(self, record: logging.LogRecord) -> None:
            if record.threadName == "dramatiq-abort watcher":
                stands_still.set()
                assert go_on.wait(PATIENCE)

    logger, handler = logging.getLogger("dramatiq_abort"), Stuck()
    logger.addHandler(handler)
    running = bench.start_endless()
    bench.abort(running)
    assert stands_still.wait(PATIENCE)
    try:
        yield
    finally:
        go_on.set()
        logger.removeHandler(handler)
    assert result_of(running)[0] == "Abort"


def test_a_stalled_watcher_is_not_trusted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """(5) After a second, all messages ask Redis, and none that was aborted runs, however many start at once."""
    # On a busy machine, the reply may exceed a message's timeout, and the message would run.
    monkeypatch.setattr("dramatiq_abort.backends.redis.backend._PATIENCE_OF_MESSAGES", 1000 * PATIENCE)
    with stalled(bench):
        messages = [bench.quick.message() for _ in range(50)]
        for message in messages:
            bench.abort(message)
        stalled_at = time.monotonic()
        wait_until(lambda: bench.backend.poll(f"abort:{messages[0].message_id}".encode()), "the question")
        assert time.monotonic() - stalled_at < 1 + NOISE
        for message in messages:
            bench.broker.enqueue(message)
        assert [result_of(message) for message in messages] == [None] * 50
        assert bench.runs_now(bench.quick.message()) == "ran"

    assert bench.log() == []


def test_a_stalled_watcher_and_a_server_that_is_silent_hold_nobody_up(bench: Bench, own_server: Server) -> None:
    """(6) Redis is asked once, for a tenth of a second."""
    with stalled(bench):
        wait_until(lambda: bench.backend._must_ask)
        with own_server.stopped(), bench.traffic():
            messages = [bench.quick.send() for _ in range(100)]
            assert [result_of(message) for message in messages] == ["ran"] * 100


def test_a_slow_answer_makes_nothing_fresh(bench: Bench, proxy: Proxy, own_server: Server) -> None:
    """(5) Freshness counts from the server's reply, not from its arrival."""
    requester = Abortable(backend=RedisBackend.from_url(own_server.url))
    with proxy.slow(0.4):
        for _ in range(3):
            message = bench.quick.message()
            bench.abort(message, AbortMode.ABORT, requester)
            made_at = time.monotonic()
            wait_until(lambda: bench.backend.poll(f"abort:{message.message_id}".encode()))  # noqa: B023 - called now
            assert time.monotonic() - made_at < 1 + NOISE

    assert bench.log() == []


@pytest.mark.parametrize("mode", AbortMode)
def test_what_starts_after_abort_has_returned_does_not_run(bench: Bench, mode: AbortMode) -> None:
    """(5) A message that starts after abort() returned is skipped, or aborted if its worker learns of it late.

    A cancelled message may still run within a millisecond plus one round trip.
    """
    for number in range(100 if mode is AbortMode.ABORT else 20):
        message = bench.endless.message(str(number))
        bench.abort(message, mode)
        if mode is AbortMode.CANCEL:
            time.sleep(0.1)
        result = bench.runs_now(message)
        assert result is None or result[0] == "Abort"
