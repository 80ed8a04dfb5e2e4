"""What the tests under faults start: a network that fails, and a worker that is watched while it does."""

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
    """They must notice that a server is silent, but not when it is only busy."""
    monkeypatch.setattr("dramatiq_abort.backends.redis.backend._PATIENCE", 2_500)


@pytest.fixture
def proxy(own_server: Server) -> Iterator[Proxy]:
    """The network between the server and everybody else."""
    proxy = Proxy(own_server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def start_bench(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[Callable[[], redis.Redis]], Bench]]:
    """Starts a worker with clients that are made by a function, and stops it in the end."""
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
    """A worker and a client behind the proxy."""
    return start_bench(lambda: redis.Redis(port=proxy.port, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT))
