"""The server or the network fails: messages run, ``abort()`` raises, and then all is as before."""

from __future__ import annotations

import statistics
import time
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from fault_support import NOISE
from support import PATIENCE, result_of, wait_until

from dramatiq_abort import Abortable, AbortMode, OutcomeState, abort, abort_requested, wait_for_outcome
from dramatiq_abort._protocol.request import key_of
from dramatiq_abort.backends import RedisBackend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fault_support import Bench, Proxy
    from support import Server

pytestmark = [pytest.mark.main_interpreter, pytest.mark.newest_dependencies]


@contextmanager
def dead(server: Server, *, keeps_data: bool) -> Iterator[None]:
    server.kill()
    yield
    if not keeps_data:
        server.lose_data()
    server.start()


@pytest.mark.parametrize("keeps_data", [True, False], ids=["with its data", "without its data"])
def test_the_server_is_killed_and_restarted(bench: Bench, own_server: Server, keeps_data: bool) -> None:
    """(5, 6) The worker remembers what it received, even if the server does not."""
    bench.survives(dead(own_server, keeps_data=keeps_data), keeps_data=keeps_data)


def test_the_server_stands_still(bench: Bench, own_server: Server) -> None:
    """(5, 6) The worker survives a server that accepts connections but does not reply."""
    bench.survives(own_server.stopped())


@pytest.mark.parametrize("how", ["refuse", "drop", "cut", "swallow"])
def test_the_network_fails(bench: Bench, proxy: Proxy, how: str) -> None:
    """(5, 6) The worker survives each kind of network failure."""
    bench.survives(proxy.failing(how))


@pytest.mark.parametrize("how", ["drop", "swallow"])
def test_a_client_that_has_slept_through_an_outage(bench: Bench, proxy: Proxy, how: str) -> None:
    """(5) A client with a dead connection makes a new one in time."""
    running = bench.start_endless()
    bench.abort(bench.quick.message())
    with proxy.failing(how):
        pass
    bench.abort(running)

    assert result_of(running)[0] == "Abort"


def test_the_network_is_too_slow(bench: Bench, proxy: Proxy) -> None:
    """(5, 6) A reply after the timeout counts as none."""
    bench.survives(proxy.slow(6.0))


def test_what_is_taken_back_in_an_outage_is_not_known_afterwards(
    bench: Bench, proxy: Proxy, own_server: Server
) -> None:
    """(5) After an outage, requests restored meanwhile are unknown; those that the server lost are not."""
    key, other = b"abort:a", RedisBackend.from_url(own_server.url)
    other.notify(key, 60_000)
    wait_until(lambda: bench.backend.poll(key))
    with proxy.failing("drop"):
        bench.wait_for("ERROR")
        other.revoke(key)
        assert bench.backend.poll(key)
    bench.wait_for("ERROR", "INFO")

    assert not bench.backend.poll(key)


def test_what_is_over_before_the_return_is_not_heard(bench: Bench, proxy: Proxy, own_server: Server) -> None:
    """(5) A time to live that ends during an outage ends the request."""
    requester = Abortable(backend=RedisBackend.from_url(own_server.url))
    running, canary = bench.start_endless("running"), bench.start_endless("canary")
    with proxy.failing("drop"):
        bench.wait_for("ERROR")
        abort(running.message_id, requester, 500)
        bench.abort(canary, AbortMode.ABORT, requester)
        wait_until(lambda: abort_requested(running.message_id, requester) is None, "the end of the request")
    assert result_of(canary)[0] == "Abort"
    time.sleep(0.1)
    assert not bench.is_done(running)
    bench.abort(running)
    assert result_of(running)[0] == "Abort"


def test_a_slow_network_is_no_outage(bench: Bench, proxy: Proxy) -> None:
    """(6) On a slow network, messages start at once, and aborts take as long as the replies."""
    with proxy.slow(0.3), bench.traffic():
        running = bench.start_endless()
        bench.abort(running)
        assert result_of(running)[0] == "Abort"
        waiting = bench.endless.message("waiting")
        bench.abort(waiting)
        result = bench.runs_now(waiting)  # it may start before the worker receives that, but is then aborted
        assert result is None or result[0] == "Abort"

    assert bench.log() == []


def test_the_data_are_flushed(bench: Bench, own_server: Server) -> None:
    """(5) After a flush, requests that the worker received, and new ones, take effect."""
    known, new, running = bench.quick.message(), bench.quick.message(), bench.start_endless()
    bench.abort(known)
    wait_until(lambda: bench.backend.poll(key_of(known.message_id)), "the worker to hear of it")
    with own_server.client() as client, bench.traffic():
        client.flushall()
        bench.abort(new)
        bench.abort(running)
        assert result_of(running)[0] == "Abort"
        assert bench.runs_now(known) is None
        assert bench.runs_now(new) is None

    assert bench.log() == []


def test_a_worker_does_not_besiege_a_server(bench: Bench, proxy: Proxy) -> None:
    """(6) The worker retries at growing, random intervals, which never delay its recovery much."""
    wait_until(bench.backend.reply_store.workers, "the worker's entry, which tries by itself if it is not there")
    with proxy.failing("drop"), bench.traffic():
        wait_until(lambda: len(proxy.attempts) > 20, "the attempts")
        gaps = [after - before for before, after in pairwise(proxy.attempts)]

    # A busy machine may lengthen or shorten each single interval.
    first, later = gaps[:4], gaps[4:]
    assert statistics.mean(first) > 0.02
    assert statistics.mean(later) > 0.2
    assert max(later) < 0.5 + NOISE
    assert statistics.stdev(later) > 0.01


@pytest.mark.parametrize("is_cancelled_first", [True, False], ids=["before the start", "after the start"])
def test_a_message_is_cancelled_in_an_outage(
    bench: Bench, proxy: Proxy, own_server: Server, is_cancelled_first: bool
) -> None:
    """(5) A message cancelled in an outage is stopped afterwards, unless it was running before."""
    requester = Abortable(backend=RedisBackend.from_url(own_server.url))
    message, canary = bench.endless.message("running"), bench.start_endless("canary")
    with proxy.failing("drop"):
        bench.wait_for("ERROR")
        if is_cancelled_first:
            bench.abort(message, AbortMode.CANCEL, requester)
            time.sleep(2.5)  # a request made within a round trip of the start may count as made after it
        bench.broker.enqueue(message)
        wait_until(lambda: "running" in bench.started)
        if not is_cancelled_first:
            bench.abort(message, AbortMode.CANCEL, requester)
        bench.abort(canary, AbortMode.ABORT, requester)
    if not is_cancelled_first:
        assert result_of(canary)[0] == "Abort"
        time.sleep(0.1)  # it was received together with the other one
        assert not bench.is_done(message)
        bench.abort(message)

    assert result_of(message)[0] == "Abort"


def test_an_outcome_waits_for_the_server(bench: Bench, own_server: Server) -> None:
    """(6) Outcomes during an outage are reported after it."""
    running = bench.start_endless()
    abort(running.message_id, bench.requester, abort_timeout=300)
    wait_until(lambda: bench.backend.poll(key_of(running.message_id)), "the request")
    with dead(own_server, keeps_data=True):
        assert result_of(running)[0] == "Abort"
    outcome = wait_for_outcome(running.message_id, bench.requester, timeout=PATIENCE * 1000)

    assert outcome.state is OutcomeState.ABORTED
