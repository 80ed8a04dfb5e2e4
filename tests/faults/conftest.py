"""Fixtures of the tests of faults: a network that fails, and a worker that is observed meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis
from fault_support import TIMEOUT, Bench, Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support import Server


@pytest.fixture(autouse=True)
def patient_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make workers notice an unresponsive server, but not a busy one."""
    monkeypatch.setattr("dramatiq_abort.backends.redis.backend._PATIENCE", 2_500)


@pytest.fixture
def proxy(own_server: Server) -> Iterator[Proxy]:
    """Start the network between the server and all clients."""
    proxy = Proxy(own_server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def start_bench(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[Callable[[], redis.Redis]], Bench]]:
    """Return a function that starts a worker with clients from a factory; it is stopped after the test."""
    started = []

    def start(make_client: Callable[[], redis.Redis]) -> Bench:
        bench = Bench(caplog, make_client(), make_client())
        started.append(bench)
        return bench

    yield start
    for bench in started:
        bench.close()


@pytest.fixture
def bench(proxy: Proxy, start_bench: Callable[[Callable[[], redis.Redis]], Bench]) -> Bench:
    """Start a worker and a client behind the proxy."""
    return start_bench(lambda: redis.Redis(port=proxy.port, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT))
