"""A primary goes and its replica takes over, as Sentinel decides."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
import redis
from fault_support import TIMEOUT
from redis.sentinel import Sentinel
from support import Server, free_port, server_binaries, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fault_support import Bench


class Sentinels:
    """A primary, its replica, a Sentinel that watches them, and one that is dead."""

    def __init__(self, primary: Server, directory: Path) -> None:
        binary = server_binaries()[0]
        self.primary = primary
        with primary.client() as client:
            client.config_set("repl-diskless-sync-delay", 0)  # one replica is all there will be
        (directory / "replica").mkdir()
        self.replica = Server(binary, directory / "replica", "--replicaof", "127.0.0.1", str(primary.port))
        self.replica.start()
        with self.replica.client() as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica's copy")
        self.port = free_port()
        configuration = directory / "sentinel.conf"
        configuration.write_text(
            f"port {self.port}\n"
            "bind 127.0.0.1\n"
            f"dir {directory}\n"
            f"sentinel monitor main 127.0.0.1 {primary.port} 1\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 3000\n"
        )
        with (directory / "sentinel.log").open("wb") as log:
            self._process = subprocess.Popen([binary, str(configuration), "--sentinel"], stdout=log)
        with redis.Redis(port=self.port) as client:
            wait_until(lambda: self._sees_the_replica(client), f"the Sentinel (see {directory})")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self.replica.kill()

    def client(self) -> redis.Redis:
        addresses = [("127.0.0.1", free_port()), ("127.0.0.1", self.port)]
        return Sentinel(addresses, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT).master_for("main")

    def wait_for_failover(self) -> None:
        """Return when the Sentinel tells clients of the new primary."""
        sentinel = Sentinel([("127.0.0.1", self.port)])
        wait_until(lambda: self._primary(sentinel) == self.replica.port, "the failover")

    @staticmethod
    def _primary(sentinel: Sentinel) -> int | None:
        try:
            return int(sentinel.discover_master("main")[1])
        except redis.RedisError:
            return None

    @staticmethod
    def _sees_the_replica(client: redis.Redis) -> bool:
        try:
            return len(client.sentinel_slaves("main")) == 1
        except redis.RedisError:
            return False


@pytest.fixture
def sentinels(own_server: Server, tmp_path: Path) -> Iterator[Sentinels]:
    sentinels = Sentinels(own_server, tmp_path)
    yield sentinels
    sentinels.close()


@pytest.fixture
def bench(sentinels: Sentinels, start_bench: Callable[[Callable[[], redis.Redis]], Bench]) -> Bench:
    return start_bench(sentinels.client)


@pytest.mark.parametrize("how", ["is killed", "stands still"])
def test_the_primary_goes(bench: Bench, sentinels: Sentinels, how: str) -> None:
    """(5, 6) The worker follows the Sentinel to the new primary, though another Sentinel is dead."""

    @contextmanager
    def failover() -> Iterator[None]:
        with ExitStack() as after:
            if how == "is killed":
                sentinels.primary.kill()
            else:
                after.enter_context(sentinels.primary.stopped())
            yield
            sentinels.wait_for_failover()
            after.pop_all()

    bench.survives(failover())
