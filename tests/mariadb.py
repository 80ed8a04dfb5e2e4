"""A MariaDB for tests: an ordinary process with a port and a directory of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from support import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["has_programs", "started"]


def has_programs() -> bool:
    """Say whether the server is installed, and what makes its tables."""
    return None not in {shutil.which("mariadbd"), shutil.which("mariadb-install-db")}


def started(directory: Path) -> Iterator[int]:
    """Start a server without passwords, yield its port, and stop it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = [f"--datadir={directory / 'data'}"]
    if os.geteuid() == 0:
        options.append("--user=root")
    install = ["mariadb-install-db", "--no-defaults", *options, "--auth-root-authentication-method=normal"]
    subprocess.run([*install, "--skip-test-db"], capture_output=True, check=True)
    network = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={directory / 'socket'}"]
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            [shutil.which("mariadbd") or "", "--no-defaults", *options, *network, f"--pid-file={directory / 'pid'}"],
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: process.poll() is not None or _answers(port), "MariaDB's answer")
        assert process.poll() is None, (directory / "output").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _answers(port: int) -> bool:
    with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)) as client:
        return bool(client.recv(1))
    return False
