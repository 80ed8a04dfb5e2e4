"""Every kind of connection to Redis that users have: each available server program, and each kind of client."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import subprocess
import threading
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import redis
from redis.cluster import RedisCluster
from redis.sentinel import Sentinel
from support import GREENLETS, Server, answers, free_port, server_binaries, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

SLOTS = 16384
PAGE = Path(__file__).parent.parent / "docs" / "guides" / "sentinel-and-cluster.md"


class Way(NamedTuple):
    """A kind of connection.

    Parameters:
      connect: Makes a client.
      servers: The servers that it may use.
    """

    connect: Callable[[], Any]
    servers: list[Server]

    def cut(self) -> None:
        """Cut all connections except those made here."""
        for server in self.servers:
            with server.client() as client:
                client.client_kill_filter(skipme=True, _type="normal")


class Installation:
    """The servers of one program, each started on first use."""

    def __init__(self, binary: str, directory: Path, stack: ExitStack) -> None:
        self._binary = binary
        self._directory = directory
        self._stack = stack

    def _started(self, name: str, *options: str) -> Server:
        directory = self._directory / name
        directory.mkdir()
        server = Server(self._binary, directory, *options)
        self._stack.callback(server.kill)
        server.start()
        return server

    @cached_property
    def single(self) -> Server:
        return self._started("single", "--unixsocket", str(self.socket))

    @property
    def socket(self) -> Path:
        return self._directory / "socket"

    @property
    def certificate(self) -> Path:
        return self._directory / "certificate"

    @cached_property
    def tls_port(self) -> int:
        """Return a TLS port, with its own certificate, in front of the single server.

        A relay, because most servers in Python packages are built without TLS.
        """
        if GREENLETS:
            pytest.skip("the relays have an event loop each, and greenlets can have only one")
        key = self._directory / "key"
        openssl = shutil.which("openssl") or pytest.skip("no openssl to make a certificate")
        words = "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN=localhost"
        words += f" -addext subjectAltName=DNS:localhost -keyout {key} -out {self.certificate}"
        subprocess.run([openssl, *words.split()], check=True, capture_output=True)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, key)
        port = free_port()
        started: SimpleQueue[Callable[[], object]] = SimpleQueue()

        async def relay() -> None:
            stopping = asyncio.Event()
            server = await asyncio.start_server(partial(_relay, self.single.port), "127.0.0.1", port, ssl=context)
            started.put(partial(asyncio.get_running_loop().call_soon_threadsafe, stopping.set))
            await stopping.wait()
            server.close()

        thread = threading.Thread(target=asyncio.run, args=(relay(),), name="TLS", daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(started.get())
        return port

    @cached_property
    def cluster(self) -> list[Server]:
        """Return three nodes with a third of the slots each."""
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "5000")
        servers = [self._started(f"node-{number}", *options) for number in range(3)]
        bounds = [SLOTS * number // len(servers) for number in range(len(servers) + 1)]
        for server, begin, end in zip(servers, bounds, bounds[1:], strict=False):
            with server.client() as client:
                client.execute_command("CLUSTER ADDSLOTS", *range(begin, end))
                for other in servers:
                    client.execute_command("CLUSTER MEET", "127.0.0.1", other.port)
        for server in servers:
            with server.client() as client:
                wait_until(partial(_is_whole, client), "the cluster")
        return servers

    @cached_property
    def sentinel_port(self) -> int:
        """Return the port of a Sentinel that knows the single server as "abort"."""
        sentinel, port = self._directory / "sentinel", free_port()
        sentinel.write_text(f"port {port}\nsentinel monitor abort 127.0.0.1 {self.single.port} 1\n")
        with self._directory.joinpath("sentinel.log").open("wb") as log:
            process = subprocess.Popen([self._binary, str(sentinel), "--sentinel"], stdout=log, stderr=log)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        with redis.Redis(port=port) as client:
            wait_until(partial(answers, client), "the sentinel")
        return port


async def _relay(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writers = [writer]
    try:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(server_writer)
        await asyncio.gather(_pump(reader, server_writer), _pump(server_reader, writer))
    except OSError:  # the server has ended
        pass
    finally:
        for each in writers:  # anything left open when the loop ends causes a warning
            each.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    writer.close()


def _is_whole(client: Any) -> bool:
    return bool(client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


def _single(installation: Installation, **parameters: Any) -> Way:
    server = installation.single
    return Way(partial(server.client, **parameters), [server])


def _unix_socket(installation: Installation) -> Way:
    return _single(installation, unix_socket_path=str(installation.socket))


def _tls(installation: Installation) -> Way:
    parameters = {"ssl": True, "ssl_ca_certs": str(installation.certificate), "port": installation.tls_port}
    return Way(lambda: redis.Redis(**parameters), [installation.single])


def _limited(installation: Installation) -> Way:
    make_user(installation.single, "limited", documented_rules("test-*"))
    return _single(installation, username="limited", password="secret")  # noqa: S106 - of no worth


def _cluster(installation: Installation) -> Way:
    servers = installation.cluster
    return Way(lambda: RedisCluster(host="127.0.0.1", port=servers[0].port), servers)


def _sentinel(installation: Installation) -> Way:
    sentinels = [("127.0.0.1", installation.sentinel_port)]
    return Way(lambda: Sentinel(sentinels).master_for("abort"), [installation.single])


WAYS: dict[str, Callable[[Installation], Way]] = {
    "plain": _single,
    "resp2": partial(_single, protocol=2),
    "resp3": partial(_single, protocol=3),
    "decode": partial(_single, decode_responses=True),
    "impatient": partial(_single, socket_timeout=0.1),
    "database": partial(_single, db=5),
    "small-pool": partial(_single, max_connections=2),
    "unix": _unix_socket,
    "tls": _tls,
    "limited": _limited,
    "cluster": _cluster,
    "sentinel": _sentinel,
}


class Kind(NamedTuple):
    """A parameter of tests: a server program, and the name of a kind of connection."""

    binary: str
    way: str

    def open(self, installation: Callable[[str], Installation]) -> Way:
        return WAYS[self.way](installation(self.binary))


def documented_rules(namespace: str = "dramatiq-abort") -> list[str]:
    """Return the ACL rules in the documentation for a user without other permissions."""
    [rules] = re.findall(r"^ACL SETUSER (?:.*\\\n)*.*", PAGE.read_text(), re.MULTILINE)
    return [rule.replace("dramatiq-abort", namespace) for rule in rules.replace("\\\n", " ").split() if rule[0] in "~+"]


def make_user(server: Server, name: str, rules: list[str]) -> None:
    with server.client() as client:
        client.execute_command("ACL SETUSER", name, "reset", "on", ">secret", *rules)


def _name(binary: str) -> str:
    said = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True, timeout=20).stdout
    program, version = re.findall(r"(\w+) server v=(\d+\.\d+)", said)[0]
    return f"{program.lower()}-{version}"


PROGRAMS = {binary: _name(binary) for binary in server_binaries()}


def kinds(binaries: list[str], ways: list[str]) -> list[Any]:
    """Return the parameters of tests for these kinds."""
    return [pytest.param(Kind(binary, way), id=f"{PROGRAMS[binary]}-{way}") for binary in binaries for way in ways]
