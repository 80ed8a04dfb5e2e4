"""The README's programs and the demo do what the documentation says."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pages import DOCS, README, blocks, marked
from support import PATIENCE, free_port, needs_interrupts, wait_until

if TYPE_CHECKING:
    import subprocess

    import redis
    from pages import Start

pytestmark = [pytest.mark.main_interpreter, pytest.mark.unpatched]

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def has_ended(group: int) -> bool:
    """Return whether a process group has no process left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def worker_of(output: str) -> int:
    """Return the process group of the worker that the demo reports."""
    found = re.search(r"led by process (\d+)", output)
    assert found is not None, output
    return int(found[1])


def assert_nothing_is_left(demo: subprocess.Popen[str], output: str) -> None:
    wait_until(lambda: has_ended(demo.pid), "the end of the demo's processes")
    wait_until(lambda: has_ended(worker_of(output)), "the end of the worker's processes")


def test_quickstart_is_in_the_readme() -> None:
    """The README's quickstart is the program in examples/, character for character."""
    assert (EXAMPLES / "quickstart.py").read_text(encoding="utf-8") == marked(README, "quickstart")


@needs_interrupts
def test_quickstart_prints_what_the_readme_says(start: Start) -> None:
    """The quickstart ends by itself, and prints the output in the README."""
    quickstart = start(EXAMPLES / "quickstart.py")
    output, errors = quickstart.communicate(timeout=PATIENCE)
    assert marked(README, "output") == output, errors
    assert quickstart.returncode == 0


def test_the_other_programs_of_the_readme_run(start: Start) -> None:
    """The README's other code blocks, put together, are a program that runs."""
    quickstart, *others = blocks(README, "python")
    assert quickstart == marked(README, "quickstart")
    assert others
    program = start("-c", "\n".join(others))
    _, errors = program.communicate(timeout=PATIENCE)
    assert program.returncode == 0, errors


@needs_interrupts
def test_the_programs_on_monitoring_run(start: Start) -> None:
    """The code blocks on monitoring, put together, print the documented output."""
    shown = "\n".join(blocks(DOCS / "monitoring.md", "python"))
    program = start("-c", shown)
    output, errors = program.communicate(timeout=PATIENCE)
    first, *others = output.splitlines()
    assert re.fullmatch(r"aborted wrong size Ann \S+:\d+", first), errors
    assert [re.sub(r"\S+-\S+", "ID", line) for line in others[1:]] == [
        "No answer from []",
        "Message ID was aborted: no space left",
    ]
    assert re.fullmatch(r"\S+ resize default \S+:\d+ \d+ running \(\"'b.png'\",\)", others[0])
    assert program.returncode == 0, errors


@needs_interrupts
def test_databases(start: Start) -> None:
    """An aborted transaction is rolled back, and one in a shield is committed."""
    pytest.importorskip("sqlalchemy")
    program = start(EXAMPLES / "databases.py")
    output, errors = program.communicate(timeout=PATIENCE)
    assert output.splitlines() == [
        "Before:                   Ann has 100, Bob has 0.",
        "Aborted halfway:          Ann has 100, Bob has 0.",
        "Aborted inside a shield:  Ann has 70, Bob has 30.",
    ], errors
    assert program.returncode == 0


def call(method: str, url: str) -> Any:
    """Return a site's response, once the site is up."""
    answers: list[Any] = []

    def has_answered() -> bool:
        request = urllib.request.Request(url, method=method)  # noqa: S310 - this machine's own
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - the same
                answers.append(json.load(answer))
        except ConnectionRefusedError:
            return False
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                raise
            return False
        return True

    wait_until(has_answered, f"an answer from {url}")
    return answers[0]


@needs_interrupts
def test_django(start: Start, redis_url: str) -> None:
    """Django's settings find the middleware by its path, and a view aborts a job."""
    pytest.importorskip("django_dramatiq")
    port = free_port()
    manage = EXAMPLES / "django_project" / "manage.py"
    start(manage, "rundramatiq", "--processes", "1", "--path", manage.parent, REDIS_URL=redis_url)
    start(manage, "runserver", "--noreload", "--skip-checks", f"127.0.0.1:{port}", REDIS_URL=redis_url)
    message_id = call("POST", f"http://127.0.0.1:{port}/jobs/")["id"]
    outcome = call("POST", f"http://127.0.0.1:{port}/jobs/{message_id}/abort/")

    assert outcome["state"] in {"aborted", "skipped"}
    assert (outcome["reason"], outcome["by"]) == ("requested on the site", "127.0.0.1")


@needs_interrupts
def test_fastapi(start: Start, redis_url: str) -> None:
    """An endpoint aborts a job and awaits its outcome."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    port = free_port()
    start("-m", "dramatiq", "fastapi_app", "--processes", "1", "--path", EXAMPLES, REDIS_URL=redis_url)
    start("-m", "uvicorn", "fastapi_app:app", "--port", str(port), "--app-dir", EXAMPLES, REDIS_URL=redis_url)
    message_id = call("POST", f"http://127.0.0.1:{port}/jobs")["id"]
    outcome = call("DELETE", f"http://127.0.0.1:{port}/jobs/{message_id}?reason=enough")

    assert outcome["state"] in {"aborted", "skipped"}
    assert outcome["reason"] == "enough"


@needs_interrupts
def test_opentelemetry(start: Start) -> None:
    """An abort is recorded as a span."""
    pytest.importorskip("opentelemetry.sdk")
    program = start(EXAMPLES / "opentelemetry_traces.py")
    output, errors = program.communicate(timeout=PATIENCE)
    span = json.loads(output)

    assert (span["name"], span["attributes"]["abort.outcome"]) == ("abort resize_pictures", "aborted"), errors
    assert span["attributes"]["abort.reason"] == "wrong size"
    assert program.returncode == 0, errors


@needs_interrupts
def test_demo(start: Start, redis_url: str, redis_client: redis.Redis) -> None:
    """The demo shows all five ways, and leaves no process, and no key on a server that it did not start."""
    demo = start(EXAMPLES / "demo.py", DEMO_REDIS_URL=redis_url)
    output, errors = demo.communicate(timeout=2 * PATIENCE)
    assert demo.returncode == 0, output + errors
    for line in (
        r"two processes led by process \d+, with the (compiled|pure-Python) core",
        r"1\. Abort .*\n.*in process \d+.*\n *\d+\.\d\d ms after the call of abort\(\).*\n.*a failure: .*Abort",
        r"2\. Cancel .*\n.*it did not start\.\n.*None",
        r"3\. Give .*\n.*abort_requested\(\).*\n.* while \d+, \d+ and \d+ ms were left.*\n.*pages are copied",
        r"4\. Protect .*\n.*inside a shield\(\).*\n.*at the end of the shield.*\n.*a failure: .*Abort",
        r"5\. Abort all .*\n.*none has started",
        r"\n *Its outcome: aborted, reported by worker .*\. Reason: counted far enough \(requested by the demo\)\.",
        r"\n *Its outcome: skipped, reported by worker .*\. Reason: no longer needed\.",
        r"\n *Its outcome: completed, reported by worker .*\. Reason: the printer is needed\.",
        r"nothing is left running",
    ):
        assert re.search(line, output), output
    assert_nothing_is_left(demo, output)
    assert list(redis_client.scan_iter("*dramatiq-abort-demo*")) == []


@needs_interrupts
def test_interrupted_demo(start: Start, redis_url: str, redis_client: redis.Redis) -> None:
    """A demo that is interrupted halfway leaves no process and no key."""
    demo = start(EXAMPLES / "demo.py", DEMO_REDIS_URL=redis_url)
    assert demo.stdout is not None
    output = ""
    while "2. Cancel" not in output:
        line = demo.stdout.readline()
        assert line, output
        output += line
    demo.send_signal(signal.SIGTERM)
    demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 128 + signal.SIGINT
    assert_nothing_is_left(demo, output)
    assert list(redis_client.scan_iter("*dramatiq-abort-demo*")) == []


def test_demo_of_what_does_not_work(start: Start, redis_url: str, tmp_path: Path) -> None:
    """If an abort does not happen, the demo fails, shows the worker's log, and leaves no process."""
    for name in ("demo.py", "demo_stage.py", "demo_actors.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    actors = tmp_path / "demo_actors.py"
    actors.write_text(actors.read_text().replace("Abortable())", "Abortable(abortable=False))"))
    demo = start(tmp_path / "demo.py", DEMO_REDIS_URL=redis_url)
    output, errors = demo.communicate(timeout=2 * PATIENCE)
    assert demo.returncode == 1
    assert errors.startswith("The demo has FAILED: count did not record 'aborted'")
    assert "Worker process is ready for action." in output
    assert_nothing_is_left(demo, output)
