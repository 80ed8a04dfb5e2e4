"""run_process(): subprocess.run() for a program that stops, with all its children, when its message is aborted."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.middleware import AsyncIO
from support import PATIENCE, result_of, wait_for_request, wait_until, wait_until_requested

from dramatiq_abort import Abort, Abortable, abort, run_process, shield
from dramatiq_abort.backends import StubBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from dramatiq.brokers.stub import StubBroker

    from dramatiq_abort import EventBackend

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs process groups")

#: Writes a file with its process id into a directory, and sleeps.
SLEEP = 'touch "$1/$$"; exec sleep 60'

#: Makes a program and its children ignore the request to end.
IGNORE = 'trap "" TERM; '

#: Does the same next to another such process.
PARENT = f"sh -c '{SLEEP}' sh \"$1\" & {SLEEP}"


@pytest.fixture
def make_backend() -> Callable[[], EventBackend]:
    """Return a single backend: the origin of the request makes no difference here."""
    backend = StubBackend()
    return lambda: backend


@pytest.fixture(params=["pidfd", "thread"])
def exit_signal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use either way to wait for the program's end: Linux's, or the portable one."""
    if request.param == "thread":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("this system has no pidfd")


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-c", code, *words]


def shell(code: str, *words: str) -> list[str]:
    return ["sh", "-c", code, "sh", *words]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in _state(pid)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def _children() -> list[int]:
    processes = [int(process.name) for process in Path("/proc").glob("[0-9]*")]
    return [process for process in processes if f"PPid:\t{os.getpid()}\n" in _state(process)]


needs_open_files = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="this system does not say which files are open"
)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.usefixtures("exit_signal")
@pytest.mark.parametrize(
    ("words", "options"),
    [
        (python("print('out'); import sys; print('err', file=sys.stderr)"), {"capture_output": True}),
        (python("print('out'); import sys; print('err', file=sys.stderr)"), {"capture_output": True, "text": True}),
        (python("import sys; sys.stdout.write('a\\r\\nb\\rc')"), {"stdout": subprocess.PIPE, "encoding": "ascii"}),
        (python("import sys; sys.stdout.buffer.write(b'\\xff')"), {"capture_output": True, "errors": "replace"}),
        (python("print('x' * 1_000_000)"), {"capture_output": True}),
        (python("import sys; print(len(sys.stdin.read()))"), {"capture_output": True, "input": b"x" * 1_000_000}),
        (python("import sys; print(sys.stdin.read())"), {"capture_output": True, "input": "ä", "text": True}),
        (python("pass"), {"input": b"x" * 1_000_000}),
        (python("print(input())"), {"stdin": subprocess.DEVNULL, "capture_output": True}),
        (python("print('x')"), {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}),
        (python("print('x')"), {"stdout": subprocess.DEVNULL}),
        (python("import sys; sys.exit(3)"), {}),
        (python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), {}),
        ("echo $NAME | tr a-z A-Z", {"shell": True, "capture_output": True, "env": {"NAME": "x", "PATH": os.defpath}}),
        (python("import os; print(os.getcwd())"), {"cwd": "/", "capture_output": True, "text": True}),
    ],
)
def test_it_does_what_subprocess_does(words: Any, options: dict[str, Any]) -> None:
    """For a program that ends by itself, output, status and arguments are those of subprocess."""
    expected = subprocess.run(words, check=False, **options)
    if isinstance(expected.stderr, str | bytes) and expected.returncode:  # a traceback
        options = options | {"stderr": subprocess.PIPE, "capture_output": False, "stdout": subprocess.PIPE}

    finished = run_process(words, **options)

    assert finished.args == expected.args
    assert finished.returncode == expected.returncode
    assert finished.stdout == expected.stdout
    assert finished.stderr == expected.stderr


def test_a_status_can_be_checked() -> None:
    """``check`` raises as in subprocess, with the program's output."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_process(python("import sys; print('out'); sys.exit(3)"), check=True, capture_output=True)

    assert caught.value.returncode == 3
    assert caught.value.stdout == b"out\n"


@pytest.mark.slow
@pytest.mark.usefixtures("exit_signal")
def test_a_timeout_kills_the_whole_group(tmp_path: Path) -> None:
    """A timeout kills the whole process group, and the exception has the output so far."""
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        run_process(shell("echo out; " + IGNORE + PARENT, str(tmp_path)), timeout=6, capture_output=True)

    assert caught.value.stdout == b"out\n"
    assert caught.value.timeout == 6
    assert len(_pids(tmp_path)) == 2
    wait_until(lambda: not any(is_alive(pid) for pid in _pids(tmp_path)), "the end of all")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"input": b"x", "stdin": subprocess.PIPE}, ValueError),
        ({"capture_output": True, "stdout": subprocess.PIPE}, ValueError),
        ({"start_new_session": False}, ValueError),
        ({"process_group": 0}, ValueError),
        ({"abort_grace": -1}, ValueError),
        ({"abort_grace": 0.5}, TypeError),
        ({"nonsense": 1}, TypeError),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], error: type[Exception]) -> None:
    """Conflicting arguments raise before anything is started."""
    with pytest.raises(error):
        run_process(python("pass"), **options)


@needs_open_files
def test_a_program_that_is_not_there() -> None:
    """A missing program raises as in subprocess, and no file stays open."""
    before = open_files()
    with pytest.raises(FileNotFoundError):
        run_process(["/nonexistent"])

    assert open_files() <= before  # other threads may close files meanwhile


@needs_open_files
def test_a_program_whose_input_cannot_be_sent_does_not_run_on(tmp_path: Path) -> None:
    """A program that has started is killed if its input cannot be sent."""
    files, children = open_files(), _children()
    with pytest.raises(TypeError):
        run_process(shell(SLEEP, str(tmp_path)), input=object())

    assert open_files() <= files
    assert set(_children()) <= set(children)


def test_windows_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, the error says what is missing and what to do."""
    monkeypatch.setattr(os, "name", "nt")

    with pytest.raises(NotImplementedError, match=r"use subprocess\.run"):
        run_process(["x"])


class Task:
    """An actor that runs a program, with the results."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.aborted: list[Abort] = []

        @dramatiq.actor
        def task(code: str, options: dict[str, Any]) -> None:
            try:
                run_process(shell(code, str(self.directory)), **options)
            except Abort as aborted:
                self.aborted.append(aborted)
                raise

        self._actor = task

    def start(self, code: str, *, programs: int = 1, **options: Any) -> dramatiq.Message[Any]:
        wanted = len(_pids(self.directory)) + programs
        message = self._actor.send(code, options)
        wait_until(lambda: len(_pids(self.directory)) == wanted, "the programs")
        return message

    def is_over(self) -> bool:
        return not any(is_alive(pid) for pid in _pids(self.directory))


def _pids(directory: Path) -> list[int]:
    return [int(path.name) for path in directory.iterdir()]


@pytest.fixture
def task(tmp_path: Path, worker: dramatiq.Worker) -> Task:
    return Task(tmp_path)


@pytest.mark.usefixtures("core", "exit_signal")
def test_an_abort_ends_the_program(task: Task) -> None:
    """An abort terminates the program, and the exception has its output."""
    message = task.start("echo out; " + SLEEP, capture_output=True, text=True)
    abort(message.message_id)

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")
    (aborted,) = task.aborted
    assert aborted.process is not None
    assert aborted.process.returncode == -signal.SIGTERM
    assert aborted.process.stdout == "out\n"
    assert task.is_over()


@pytest.mark.usefixtures("exit_signal")
def test_a_program_that_does_not_end_is_killed(task: Task) -> None:
    """A program that does not end is killed after the grace period, not before."""
    message = task.start(IGNORE + SLEEP, abort_grace=100)
    before = time.monotonic()
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    assert time.monotonic() - before >= 0.1
    assert task.aborted[0].process is not None
    assert task.aborted[0].process.returncode == -signal.SIGKILL
    assert task.is_over()


@pytest.mark.usefixtures("exit_signal")
@pytest.mark.parametrize("who_ignores_it", ["nobody", "parent", "child", "both"])
def test_no_grandchild_is_left(task: Task, who_ignores_it: str) -> None:
    """No grandchild is left, whichever process ends on request."""
    code = {
        "nobody": PARENT,
        "parent": PARENT.replace("&", "& " + IGNORE),
        "child": PARENT.replace("'touch", "'" + IGNORE + "touch"),
        "both": IGNORE + PARENT,
    }[who_ignores_it]
    message = task.start(code, programs=2, abort_grace=200)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    wait_until(task.is_over, "the end of all")


@pytest.mark.usefixtures("core")
def test_an_abort_at_the_start_ends_the_program(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """An abort during the start waits until the program is known, and is not lost."""
    start = subprocess.Popen

    def start_slowly(*args: Any, **options: Any) -> subprocess.Popen[Any]:
        process = start(*args, **options)
        wait_for_request()
        for _ in range(5):
            time.sleep(0.001)
        return process

    monkeypatch.setattr(subprocess, "Popen", start_slowly)
    message = task.start(SLEEP)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    assert len(task.aborted) == 1
    assert task.aborted[0].process is not None
    assert task.aborted[0].process.returncode == -signal.SIGTERM
    assert task.is_over()


@pytest.mark.usefixtures("exit_signal")
def test_a_grandchild_has_its_grace_period(task: Task, tmp_path: Path) -> None:
    """A grandchild has its grace period even if its parent has ended at once."""
    clean_up = f"trap 'sleep 0.1; touch {tmp_path}/1; exit' TERM; touch \"$1/$$\"; while :; do sleep 0.01; done"
    message = task.start(f"({clean_up}) & {SLEEP}".replace("$$", "$(exec sh -c 'echo $PPID')", 1), programs=2)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    assert (tmp_path / "1").exists()


@needs_open_files
def test_no_zombie_and_no_file_is_left(task: Task) -> None:
    """Neither aborted nor other programs leave zombies or open files."""
    run_process(python("pass"), capture_output=True)
    before, children = open_files(), set(_children())
    for _ in range(3):
        message = task.start(SLEEP, capture_output=True)
        abort(message.message_id)
        assert result_of(message)[0] == "Abort"
        run_process(python("pass"), capture_output=True)

    assert not any("zombie" in _state(child) for child in set(_children()) - children)
    assert open_files() <= before


def test_a_shield_lets_the_program_end_by_itself(
    broker: StubBroker, abortable: Abortable, worker: dramatiq.Worker, tmp_path: Path
) -> None:
    """In a shield, an abort waits for the shield's end, and the program ends by itself."""
    go, codes = tmp_path / "go", []
    started = threading.Event()

    @dramatiq.actor
    def task() -> None:
        with shield():
            started.set()
            code = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)"
            codes.append(run_process(python(code, str(go))).returncode)

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)
    wait_until_requested(abortable, message)
    go.write_text("")

    assert result_of(message)[0] == "Abort"
    assert codes == [0]


def test_it_does_not_wait_busily(task: Task) -> None:
    """Neither the wait for a program nor for one that does not end is a busy loop."""
    processor = time.process_time()
    message = task.start(IGNORE + SLEEP, abort_grace=400)
    abort(message.message_id)
    assert result_of(message)[0] == "Abort"

    assert time.process_time() - processor < 0.3


def test_a_coroutine_runs_it_in_a_thread(broker: StubBroker, start_worker: Any, tmp_path: Path) -> None:
    """In a coroutine's thread, an abort ends the program; in the loop itself, run_process() is refused."""
    broker.add_middleware(AsyncIO())
    codes: list[int | None] = []
    ended = threading.Event()

    def in_a_thread() -> None:
        try:
            run_process(shell(SLEEP, str(tmp_path)))
        except Abort as aborted:
            codes.append(aborted.process and aborted.process.returncode)
            ended.set()

    @dramatiq.actor
    async def task() -> None:
        with pytest.raises(RuntimeError, match="would block the event loop"):
            run_process(["x"])
        await asyncio.to_thread(in_a_thread)

    start_worker()
    message = task.send()
    wait_until(lambda: _pids(tmp_path), "the program")
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    assert ended.wait(PATIENCE)
    assert codes == [-signal.SIGTERM]
