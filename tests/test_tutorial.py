"""The tutorial, followed step by step."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from pages import DOCS, text_of
from support import PATIENCE, needs_interrupts, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support import Server

pytestmark = [pytest.mark.main_interpreter, pytest.mark.newest_dependencies, pytest.mark.unpatched]

PAGE = text_of(DOCS / "tutorial.md")

#: Each block of the page in order: the preceding comment, the language, the text.
BLOCKS = re.findall(r"^(?:<!-- (.*?) -->\n)?```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def alike(said: str) -> list[str]:
    """Return lines without the parts that vary between runs or that the page omits."""
    said = re.sub(r"^\[[^]]*\] \[PID \d+\] \[[^]]*\] \[[^]]*\] ", "", said, flags=re.MULTILINE)
    said = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", said)
    return re.sub(r"\b\d+(\.\d+)+", "NUMBER", said).splitlines()


class Shell:
    """An interactive Python."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "shell.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-i", "-q", "-u"],
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def type(self, line: str) -> str:
        """Type a line, and return the output."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(f"{line}\nprint('=end=')", file=self._process.stdin, flush=True)
        said = ""
        while not said.endswith("=end=\n"):
            more = self._process.stdout.readline()
            assert more, line
            said += more
        return said.removesuffix("=end=\n")

    def close(self) -> None:
        self._process.communicate(timeout=PATIENCE)


class Worker:
    """A worker in another shell."""

    def __init__(self, directory: Path, command: str) -> None:
        self._log = directory / "worker.log"
        self._expected: list[str] = []
        python, *words = command.split()
        assert python == "python"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *words], cwd=directory, stdout=log, stderr=log, start_new_session=True
            )

    def says(self, what: str) -> None:
        """Wait until the worker's output is this and nothing else, in any order."""
        self._expected = sorted(self._expected + alike(what))
        lines = len(self._expected)
        wait_until(lambda: self._log.read_text().count("\n") >= lines, f"what {self._log} should have")
        assert sorted(alike(self._log.read_text())) == self._expected

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGINT)
        try:
            assert self._process.wait(PATIENCE) == 0
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


@needs_interrupts
def test_the_tutorial(own_server: Server, tmp_path: Path, shell: Shell) -> None:
    """The tutorial's file, commands and output are correct; only installations are skipped."""
    worker = None
    try:
        for comment, language, text in BLOCKS:
            if language == "python":
                program = text.replace("redis://localhost:6379/0", own_server.url)
                assert program != text
                (tmp_path / comment.removeprefix("file: ")).write_text(program)
            elif language == "console":
                command, _, said = text.removeprefix("$ ").partition("\n")
                worker = Worker(tmp_path, command)
                worker.says(said)
            elif language == "pycon":
                for line, said in re.findall(r"^>>> (.*)\n((?:(?!>>> ).*\n)*)", text, re.MULTILINE):
                    assert alike(shell.type(line)) == alike(said), shell.log.read_text()
            elif comment == "worker":
                assert worker is not None
                worker.says(text)
            else:
                assert language == "sh"
                assert re.search("install|valkey", text)
    finally:
        if worker is not None:
            worker.stop()
