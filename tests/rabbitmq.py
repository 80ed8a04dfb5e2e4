"""Run a RabbitMQ for tests: an ordinary process with its own ports and directory."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from support import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["binary", "started"]

#: Debian's program; the command of that name starts it as another user, and only as root.
_DEBIANS = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def binary() -> str | None:
    """Return the path of the program, or None."""
    return str(_DEBIANS) if _DEBIANS.exists() else shutil.which("rabbitmq-server")


def started(binary: str, directory: Path) -> Iterator[str]:
    """Start a server, yield its URL, and stop it."""
    ports = _free_ports(3)
    (directory / "plugins").write_text("[].")
    environment = os.environ | {
        "HOME": str(directory),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(ports[2]),
        "RABBITMQ_DIST_PORT": str(ports[1]),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_NODENAME": f"test{ports[0]}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(ports[0]),
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            [binary], env=environment, cwd=directory, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until(lambda: process.poll() is not None or _answers(ports[0]), "RabbitMQ's answer")
        assert process.poll() is None, (directory / "output").read_text()
        yield f"amqp://guest:guest@127.0.0.1:{ports[0]}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE)
        # Erlang's port mapper, which does not stop by itself.
        if epmd := shutil.which("epmd"):
            subprocess.run([epmd, "-kill"], env=environment, capture_output=True, check=False)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _answers(port: int) -> bool:
    """Return whether the server greets a client, which it does some time after it has begun to listen."""
    with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)) as client:
        client.sendall(b"AMQP\0\0\x09\x01")
        return bool(client.recv(1))
    return False
