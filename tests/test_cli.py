"""The command line, as a process of its own, on a real server with real workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import PATIENCE, free_port, result_type, told, wait_until

import dramatiq_abort
from dramatiq_abort import Reply, abort, wait_for_outcome
from dramatiq_abort._protocol.snapshot import QUESTION, answer_name
from dramatiq_abort.backends import RedisBackend

pytest.importorskip("click")
pytest.importorskip("rich")
pytest.importorskip("termios")

from cli_support import COMMAND, DOWN, OTHER_SCREEN, OWN_SCREEN, Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    import redis

    Cli = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [pytest.mark.timeout(120), pytest.mark.oldest_interpreter, pytest.mark.unpatched]

TESTS = Path(__file__).parent

#: Commands that wait for the last worker's answer, however busy this machine is.
PS = "ps", "--timeout", "20s"
DOCTOR = "doctor", "--timeout", "20s"


@pytest.fixture
def env(redis_url: str, namespace: str) -> dict[str, str]:
    """The environment, which says where."""
    ours = {"DRAMATIQ_ABORT_URL": redis_url, "DRAMATIQ_ABORT_NAMESPACE": f"{namespace}-abort"}
    return {name: value for name, value in os.environ.items() if name != "COLUMNS"} | ours


@pytest.fixture
def cli(env: dict[str, str], tmp_path: Path) -> Cli:
    """Runs the command to its end."""

    def run(*words: str, typed: str = "", cwd: Path = tmp_path, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *words],
            input=typed,
            cwd=cwd,
            env=env | more,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )

    return run


@pytest.fixture
def terminal(env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Runs the command on a terminal."""
    terminals = []

    def run(*words: str, **options: Any) -> Terminal:
        terminals.append(Terminal([COMMAND, *words], tmp_path, env | {"TERM": "xterm"}, **options))
        return terminals[-1]

    yield run
    for each in terminals:
        each.close()


@pytest.fixture
def send_running(app: ModuleType, start_processes: Any) -> Iterator[Callable[..., list[Any]]]:
    """Starts workers and sends messages that run, and waits until they do; a worker that is to stop is not kept."""
    sent = []

    def send(count: int = 1) -> list[Any]:
        messages = [app.run.send(f"{app.broker.namespace}-{number}") for number in range(count)]
        sent.extend(messages)
        for message in messages:
            told(app, message.args[0])
        return messages

    start_processes()
    yield send
    abort(sent)


def data_of(done: subprocess.CompletedProcess[str]) -> list[Any]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def send_protected(app: ModuleType) -> Any:
    """Send one that goes on for as long as nobody asks to abort it, and that reads its grace period."""
    message = app.finish_in_time.send(app.broker.namespace)
    assert told(app, app.broker.namespace) == "started"
    return message


@contextmanager
def stopped(worker: str) -> Iterator[None]:
    """Let a worker process stand still."""
    pid = int(worker.rpartition(":")[2])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_abort_what_runs(send_running: Any, cli: Cli) -> None:
    """And wait until it is known."""
    one, other = send_running(2)
    done = cli("abort", one.message_id, "--wait", "--reason", "not wanted", "--by", "Ann")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{one.message_id}  aborted    run on ")
    assert done.stdout.endswith("requested by Ann: not wanted\n")

    done = cli("abort", "--wait", "--wait-timeout", "20s", "--json", other.message_id)
    (outcome,) = data_of(done)
    assert (done.returncode, done.stderr) == (0, "")
    assert (outcome["message_id"], outcome["state"], outcome["actor"]) == (other.message_id, "aborted", "run")
    assert "@" in outcome["by"]
    assert outcome["latency"] >= 0
    assert [result_type(message) for message in (one, other)] == ["Abort"] * 2


def test_abort_what_waits(app: ModuleType, start_processes: Any, cli: Cli) -> None:
    """And ask later what became of it."""
    message = app.run.send("x")
    assert cli("status", message.message_id).stdout == f"{message.message_id}  pending    no abort request\n"
    done = cli("abort", message.message_id)
    assert (done.returncode, done.stdout) == (0, f"Asked to abort message {message.message_id}.\n")
    done = cli("status", message.message_id, "--json")
    assert done.returncode == 1
    assert [(said["state"], said["asked"]) for said in data_of(done)] == [("pending", True)]
    start_processes()
    done = cli("status", message.message_id, "--wait", "--wait-timeout", "20s")

    assert done.returncode == 0
    assert done.stdout.startswith(f"{message.message_id}  skipped    run on ")


def test_a_wait_that_is_over(app: ModuleType, cli: Cli) -> None:
    """Is no success."""
    done = cli("abort", "x", "y", "--wait", "--wait-timeout", "50", "--json")

    assert done.returncode == 1
    assert sorted((said["message_id"], said["state"]) for said in data_of(done)) == [("x", "pending"), ("y", "pending")]


def test_abort_with_a_grace_period(app: ModuleType, start_processes: Any, cli: Cli) -> None:
    """And time to live, and repetition, which others read."""
    start_processes()
    message = send_protected(app)
    done = cli("abort", message.message_id, "--grace", "1m", "--ttl", "1h", "--repeat-every", "5s", "--wait")

    assert done.stdout.startswith(f"{message.message_id}  completed  finish_in_time on ")
    assert result_type(message) == "in time: True"


def test_ids_from_standard_input(cli: Cli, app: ModuleType) -> None:
    """One to a line, each once, besides those that are written down."""
    typed = "".join(f"  {number}\n\n" for number in range(1500)) + "7\n"
    done = cli("abort", "other", "-", typed=typed)
    assert (done.returncode, done.stdout) == (0, "Asked to abort 1501 messages.\n")
    done = cli("abort", "-", "--json", typed="a\nb\n")
    assert data_of(done) == [{"message_id": name, "state": "requested"} for name in "ab"]
    done = cli("status", "other", "0", "1499", "nobody", "--json")
    assert {said["message_id"]: said["asked"] for said in data_of(done)} == {
        "other": True,
        "0": True,
        "1499": True,
        "nobody": False,
    }
    assert cli("restore", "-", typed="a\nb\n").returncode == 0


def test_many_have_a_progress_bar(terminal: Any, tmp_path: Path) -> None:
    """On a terminal."""
    ids = tmp_path / "ids"
    ids.write_text("".join(f"{number}\n" for number in range(5000)))
    with ids.open() as stdin:
        shown = terminal("abort", "-", only_errors=True, stdin=stdin)
    assert shown.end() == 0
    assert b"Sending" in shown.shown


def test_all_or_none(cli: Cli) -> None:
    """An id that cannot be one is seen before the first request is made."""
    done = cli("abort", "-", typed=f"first\n{'x' * 600}\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: a message id must have 1 to 506 bytes, not 600\n"
    assert not data_of(cli("status", "first", "--json"))[0]["asked"]


def test_cancel(app: ModuleType, send_running: Any, cli: Cli) -> None:
    """What waits is skipped, and what runs goes on."""
    waiting = app.run.message("x")
    done = cli("cancel", waiting.message_id, "--reason", "changed my mind")
    assert (done.returncode, done.stdout) == (0, f"Asked to cancel message {waiting.message_id}.\n")
    app.broker.enqueue(waiting)
    assert cli("status", waiting.message_id, "--wait").stdout.rstrip().endswith(": changed my mind")
    (running,) = send_running()
    assert cli("cancel", running.message_id).returncode == 0

    (said,) = data_of(cli(*PS, "--json"))
    assert [(message["message_id"], message["state"]) for message in said["messages"]] == [
        (running.message_id, "running")
    ]


def test_abort_all(app: ModuleType, start_processes: Any, cli: Cli) -> None:
    """Of an actor; the rule is listed, and taken back."""
    waiting = app.run.send("x")
    done = cli("abort-all", "--actor", "run", "--queue", "default", "--reason", "full", "--by", "Ann", "--ttl", "1h")
    rule = done.stdout.strip()
    assert done.returncode == 0
    assert rule.startswith("rule:")
    assert done.stderr == "Aborts waiting and running messages of actor run and queue default. In effect for 1 h.\n"
    listed = cli("rules").stdout.splitlines()
    assert listed[0].split() == ["RULE", "FOR", "MODE", "SINCE", "ENDS", "IN", "BY", "REASON"]
    assert listed[1].startswith(f"{rule}  actor run and queue default  abort  ")
    assert listed[1].split()[-2:] == ["Ann", "full"]
    (said,) = data_of(cli("rules", "--json"))
    assert said.pop("before") <= time.time() * 1000 + 1
    assert 0 < said.pop("ttl") <= 3_600_000
    assert said == {
        "id": rule,
        "actor": "run",
        "queue": "default",
        "tag": None,
        "mode": "abort",
        "abort_timeout": 0,
        "repeat_every": None,
        "reason": "full",
        "by": "Ann",
    }
    start_processes()
    assert data_of(cli("status", waiting.message_id, "--wait", "--json"))[0]["state"] == "skipped"

    done = cli("restore", rule, "nothing", "--json")
    assert done.returncode == 1
    assert data_of(done) == [{"id": rule, "restored": True}, {"id": "nothing", "restored": False}]
    assert cli("rules").stdout == "No rules.\n"


def test_abort_all_says_its_rule_to_a_program(cli: Cli, app: ModuleType) -> None:
    """And with --cancel leaves alone what runs."""
    done = cli("abort-all", "--tag", "customer 7", "--cancel", "--grace", "2s", "--json")
    (said,) = data_of(done)
    assert (said["tag"], said["mode"], said["ttl"], done.stderr) == ("customer 7", "cancel", 86_400_000, "")
    assert cli("restore", said["id"]).stdout == f"{said['id']}  restored\n"


def test_ps(send_running: Any, cli: Cli) -> None:
    """A table, and the same for a program."""
    wait_until(lambda: len(data_of(cli(*PS, "--json"))[0]["workers"]) == 2, "both workers")
    assert cli(*PS).stdout == "No messages on 2 worker processes.\n"
    (message,) = send_running()
    heads, line, last = cli(*PS, "--arguments").stdout.splitlines()
    assert heads.split() == ["MESSAGE", "ACTOR", "QUEUE", "WORKER", "FOR", "STATE", "ARGUMENTS"]
    assert line.startswith(f"{message.message_id}  run    default  ")
    assert line.rstrip().endswith(f"  running  '{message.args[0]}'")
    assert last == "1 message on 2 worker processes."
    (said,) = data_of(cli(*PS, "--json", "--arguments"))
    (found,) = said["messages"]
    assert (found["message_id"], found["actor"], found["queue"]) == (message.message_id, "run", "default")
    assert found["arguments"] == [repr(message.args[0])]
    assert found["worker"] in {worker["worker"] for worker in said["workers"]}
    assert said["unresponsive"] == []


def test_a_silent_worker(send_running: Any, cli: Cli) -> None:
    """Is named, by ps and by doctor, and is no success."""
    (message,) = send_running()
    worker = data_of(cli(*PS, "--json"))[0]["messages"][0]["worker"]
    with stopped(worker):
        done = cli("ps", "--timeout", "200ms")
        assert done.returncode == 1
        assert f"{worker} did not reply within 200 ms: it died " in done.stderr
        assert worker in data_of(cli("ps", "--timeout", "200ms", "--json"))[0]["unresponsive"]
        done = cli("doctor", "--timeout", "200ms")
    assert done.returncode == 1
    assert f"problem: {worker} did not reply within 200 ms" in done.stdout
    assert cli("abort", message.message_id, "--wait").returncode == 0


def test_doctor(send_running: Any, cli: Cli) -> None:
    """All is well."""
    send_running()
    wait_until(lambda: len(data_of(cli(*PS, "--json"))[0]["workers"]) == 2, "both workers")
    done = cli(*DOCTOR, "--json")
    (said,) = data_of(done)
    assert (done.returncode, said["ok"], said["wrong"]) == (0, True, [])
    assert said["here"]["dramatiq-abort"] == dramatiq_abort.__version__
    assert said["server"]["name"] in {"valkey", "redis"}
    assert said["round_trip"] > 0
    assert {worker["version"] for worker in said["workers"]} == {dramatiq_abort.__version__}
    assert all(worker["reply_ms"] >= 0 and worker["clock"] == 0 for worker in said["workers"])
    done = cli(*DOCTOR)
    assert done.returncode == 0
    assert done.stdout.endswith("No problems found.\n")


def test_doctor_without_workers(cli: Cli) -> None:
    """Something is wrong."""
    done = cli("doctor")
    assert done.returncode == 1
    assert "problem: No workers found." in done.stdout


def test_doctor_sees_a_clock_that_is_wrong(cli: Cli, redis_client: redis.Redis, env: dict[str, str]) -> None:
    """And another version, of a worker that says so."""
    backend = RedisBackend(client=redis_client, namespace=env["DRAMATIQ_ABORT_NAMESPACE"])
    entry = json.dumps({"worker": "far\x1b[2Jaway:1", "version": "9", "core": "python", "python": "CPython 9"}).encode()
    backend.reply_store.register(entry, 60_000)

    def answer() -> None:
        while not (key := backend.wait_many([], PATIENCE * 1000) or b"").startswith(QUESTION):
            assert key, "nobody has asked"
        said = {"now": int(time.time() * 1000) - 7_200_000, "messages": [], "omitted": 0}
        backend.reply_store.put(
            [Reply(answer_name(key.removeprefix(QUESTION).decode(), entry), json.dumps(said).encode(), 30_000)]
        )

    worker = threading.Thread(target=answer)
    worker.start()
    done = cli("doctor", "--timeout", "20s")
    worker.join(PATIENCE)
    backend.wake()

    assert done.returncode == 1
    assert r"problem: The clock of far\x1b[2Jaway:1 is 1 h 59 m behind" in done.stdout or "2 h" in done.stdout
    assert "has dramatiq-abort 9, this machine " in done.stdout
    assert "has the pure-Python core" in done.stdout
    assert "\x1b" not in done.stdout


def test_control_characters_are_written_out(send_running: Any, cli: Cli) -> None:
    """Whoever wrote them."""
    (message,) = send_running()
    abort(message.message_id, by="\x1b]0;evil\x07", reason="\u202ereversed", abort_timeout=60_000)
    done = cli(*PS)
    assert r"by \x1b]0;evil\x07" in done.stdout
    abort(message.message_id, by="\x1b]0;evil\x07", reason="\u202ereversed")
    wait_for_outcome(message.message_id, timeout=PATIENCE * 1000)
    done = cli("status", message.message_id)
    assert done.stdout.endswith("requested by \\x1b]0;evil\\x07: \\u202ereversed\n")
    assert "\x1b" not in cli("status", "\x1b[2J", "x").stdout


def test_the_users_own_broker(send_running: Any, cli: Cli) -> None:
    """As dramatiq's own command finds it: from the directory in which one is."""
    (message,) = send_running()
    words = ["abort", message.message_id, "--wait", "--json"]
    done = cli(*words, "--broker", "worker_app:broker", cwd=TESTS)
    assert (done.returncode, data_of(done)[0]["state"]) == (0, "aborted"), done.stderr
    done = cli("rules", cwd=TESTS, DRAMATIQ_ABORT_URL="", DRAMATIQ_ABORT_BROKER="worker_app")
    assert (done.returncode, done.stdout) == (0, "No rules.\n"), done.stderr


def test_python_m(env: dict[str, str], tmp_path: Path) -> None:
    """It is the same program."""
    words = [sys.executable, "-m", "dramatiq_abort", "rules"]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "No rules.\n", "")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["nothing"], "No such command 'nothing'."),
        (["abort"], "Missing argument 'ID...'."),
        (["abort", "x", "--grace", "soon"], "'soon' is not a time"),
        (["abort", "x", "--ttl", "0"], "abort_ttl must be from 1 to"),
        (["abort", "x", "--reason", "x" * 300], "reason"),
        (["abort", ""], "a message id must have 1 to 506 bytes"),
        (["abort-all"], "abort-all needs --actor, --queue or --tag"),
        (["abort-all", "--actor", "x" * 300], "actor"),
        (["restore", "rule:" + "x" * 600], "not the id of a rule"),
        (["rules", "--url", "ftp://x"], "Redis URL must specify"),
        (["rules", "--url", "redis://x", "--broker", "x"], "--url and --broker exclude each other"),
        (["rules", "--broker", "x", "--namespace", "x"], "--namespace needs --url"),
        (["rules", "--namespace", "{x}"], "namespace must be a non-empty str without braces"),
        (["rules", "--broker", "no_such_module"], "No module named 'no_such_module'"),
        (["rules", "--broker", "json:nothing"], "does not define a 'nothing' variable"),
        (["rules", "--broker", "json:__name__"], "is not a Broker"),
        (["rules", "--broker", "broken"], "KeyError: 'a setting'"),
        (["rules", "--broker", "plain:broker"], "has no Abortable"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_mistakes(cli: Cli, tmp_path: Path, words: list[str], why: str) -> None:
    """Are told in a line, without a traceback."""
    (tmp_path / "broken.py").write_text("raise KeyError('a setting')")
    (tmp_path / "plain.py").write_text("from dramatiq.brokers.stub import StubBroker\nbroker = StubBroker()")
    done = cli(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


def test_it_must_know_where(cli: Cli) -> None:
    """Nothing is taken for granted."""
    done = cli("ps", DRAMATIQ_ABORT_URL="")
    assert done.returncode == 2
    assert "DRAMATIQ_ABORT_URL" in done.stderr


@pytest.mark.parametrize(
    "words",
    [["abort", "x"], ["abort-all", "--queue", "x"], ["restore", "x"], ["rules"], ["status", "x"], ["ps"], ["doctor"]],
    ids=lambda words: words[0],
)
def test_a_server_that_is_not_there(cli: Cli, words: list[str]) -> None:
    """Has an exit status of its own."""
    url = f"redis://:secret@127.0.0.1:{free_port()}"
    done = cli(*words, "--url", url)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert "Check the address of the server" in done.stderr
    done = cli(*words, "--url", url, "--verbose")
    assert done.returncode == 3
    assert done.stderr.startswith("Traceback")
    assert "secret" not in done.stderr


def test_how_far_it_came(cli: Cli) -> None:
    """Of many."""
    done = cli("abort", "a", "b", "--url", f"redis://127.0.0.1:{free_port()}")
    assert done.stderr.startswith("error: 0 of 2 messages were aborted: ConnectionError: ")


def test_without_the_extra(tmp_path: Path) -> None:
    """It says what is missing."""
    import dramatiq

    for package in (dramatiq, dramatiq_abort):
        Path(tmp_path, package.__name__).symlink_to(Path(package.__file__).parent)
    done = subprocess.run(  # nothing else that is installed is seen by -S
        [sys.executable, "-S", "-m", "dramatiq_abort", "ps"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the command line needs an extra: pip install 'dramatiq-abort[cli]'\n"


def test_ctrl_c(env: dict[str, str], tmp_path: Path, redis_client: redis.Redis) -> None:
    """Ends it quietly."""
    process = subprocess.Popen(
        [COMMAND, "status", "x", "--wait", "--wait-timeout", "1m"],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    def waits() -> bool:
        return any(each["cmd"] == "xread" and "b" in each["flags"] for each in redis_client.client_list())

    wait_until(waits, "the command's wait")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output, errors.strip()) == (130, b"", b"")


@pytest.mark.parametrize("words", [["--json"], []], ids=["json", "text"])
def test_a_closed_pipe(env: dict[str, str], tmp_path: Path, words: list[str]) -> None:
    """Ends it quietly, too; and without a terminal, --watch goes on without keys."""
    process = subprocess.Popen(
        [COMMAND, "ps", "--watch", "--every", "50ms", *words],
        cwd=tmp_path,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    lines = [process.stdout.readline() for _ in range(3)]
    assert all("No messages" in line or json.loads(line)["messages"] == [] for line in lines)
    process.stdout.close()
    assert process.wait(PATIENCE) == 141
    errors = process.stderr.read()
    process.stderr.close()
    assert "Traceback" not in errors


def test_watch(send_running: Any, terminal: Any) -> None:
    """What runs is there to be chosen, and to be aborted."""
    first, second = send_running(2)
    screen = terminal(*PS, "--watch", "--every", "100ms", "--arguments")
    screen.read_until(OTHER_SCREEN, first.message_id.encode(), second.message_id.encode(), b"q: quit")
    screen.press(DOWN + b"a")
    screen.read_until(b"Abort message ", b"y: yes")
    screen.press(b"n")
    screen.read_until(b"Not aborted.")
    screen.press(b"k" + DOWN + b"\r")
    screen.read_until(b"y: yes")
    chosen = screen.shown.rpartition(b"Abort message ")[2][:36].decode()
    other = first if chosen == second.message_id else second
    screen.press(b"y")
    screen.read_until(f"Asked to abort message {chosen}".encode())
    screen.read_until(b"1 message on ", other.message_id.encode())
    screen.press(b"q")

    assert screen.end() == 0
    assert OWN_SCREEN in screen.shown
    assert screen.is_as_before
    assert wait_for_outcome(chosen, timeout=PATIENCE * 1000).state.value == "aborted"
    abort(other.message_id)


def test_watch_restores(send_running: Any, terminal: Any) -> None:
    """Somebody else's abort, while there is time."""
    (message,) = send_running()
    abort(message.message_id, abort_timeout=600_000)
    screen = terminal(*PS, "--watch", "--every", "100ms")
    screen.read_until(b"to be aborted in 9 m")
    screen.press(b"r")
    screen.read_until(f"Message {message.message_id} was restored.".encode(), b"mrunning")
    screen.press(b"r")
    screen.read_until(b"has no abort request.")
    screen.press(b"q")
    assert screen.end() == 0
    abort(message.message_id)


def test_watch_scrolls(send_running: Any, terminal: Any, cli: Cli) -> None:
    """Where there are more messages than lines; and a narrow terminal shows the ids."""
    send_running(4)
    ids = [message["message_id"].encode() for message in data_of(cli(*PS, "--json"))[0]["messages"]]
    screen = terminal(*PS, "--watch", "--every", "100ms", size=(7, 60))
    screen.read_until(OTHER_SCREEN, *ids[:2], b"q: quit")
    assert ids[2] not in screen.shown
    screen.press(5 * DOWN)
    screen.read_until(b"\x1b[1;7m" + ids[3])
    screen.press(b"q")
    assert screen.end() == 0


@pytest.mark.parametrize("status", [130, 143], ids=["Ctrl-C", "SIGTERM"])
def test_watch_leaves_the_terminal_as_it_was(terminal: Any, app: ModuleType, status: int) -> None:
    """However it ends."""
    screen = terminal(*PS, "--watch", size=(6, 40))
    screen.read_until(OTHER_SCREEN, b"No messages on 0 worker")
    if status == 130:
        screen.press(b"\x03")
    else:
        screen.process.terminate()
    assert screen.end() == status
    assert OWN_SCREEN in screen.shown
    assert b"Traceback" not in screen.shown
    assert screen.is_as_before


def test_watch_outlives_the_server(own_server: Any, terminal: Any) -> None:
    """It says that nobody answers, and goes on when somebody does."""
    screen = terminal(*PS, "--watch", "--every", "100ms", "--url", own_server.url)
    screen.read_until(b"No messages on 0 worker")
    own_server.kill()
    screen.read_until(b"the workers could not be asked for their running messages")
    own_server.start()
    screen.read_until(b"No messages on 0 worker", b"\x1b[2mup, down")
    screen.press(b"q")
    assert screen.end() == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(cli: Cli, shell: str) -> None:
    """A script for each shell, without a backend."""
    done = cli("completion", shell, DRAMATIQ_ABORT_URL="")
    assert done.returncode == 0
    assert "_DRAMATIQ_ABORT_COMPLETE" in done.stdout


def test_completion_in_bash(send_running: Any, env: dict[str, str], tmp_path: Path, cli: Cli) -> None:
    """Of commands, options, messages that run, and rules."""
    (message,) = send_running()
    rule = cli("abort-all", "--queue", "other").stdout.strip()

    def completed(*words: str) -> list[str]:
        program = (
            f'PATH="{Path(COMMAND).parent}:$PATH"; eval "$(dramatiq-abort completion bash)" 2>/dev/null; '
            f"COMP_WORDS=(dramatiq-abort {' '.join(map(repr, words))}); COMP_CWORD={len(words)}; "
            '_dramatiq_abort_completion dramatiq-abort; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["/bin/bash", "--norc", "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        return done.stdout.split()

    assert completed("re") == ["restore"]
    assert "--arguments" in completed("ps", "--")
    wait_until(lambda: completed("abort", message.message_id[:3]) == [message.message_id], "an answer of the worker")
    assert completed("restore", "") == [rule]
    assert completed("abort", "--url", "redis://127.0.0.1:1", "") == []
    abort(message.message_id)


@pytest.fixture
def page(env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts ``dramatiq-abort web``, on any port."""
    started = []

    def start(*words: str) -> subprocess.Popen[str]:
        command = [COMMAND, "web", "--port", "0", *words]
        process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_web(send_running: Any, page: Any) -> None:
    """The page says what runs; Ctrl-C ends it."""
    (message,) = send_running(1)
    process = page("--json")
    url = json.loads(process.stdout.readline())["url"]

    def is_shown() -> bool:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 - this machine's own
            return message.message_id in answer.read().decode()

    wait_until(is_shown)
    process.send_signal(signal.SIGINT)

    assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines"),  # noqa: S104 - that is the point
        (["--host", "203.0.113.1", "--allow-remote"], "cannot listen on 203.0.113.1"),
        (["--port", "65536"], "65536"),
    ],
)
def test_web_that_cannot_be(cli: Cli, words: list[str], why: str) -> None:
    """It says why, and what to do."""
    done = cli("web", *words)

    assert done.returncode == 2
    assert why in done.stderr


def test_help(cli: Cli) -> None:
    """Without a command, and of the version."""
    assert cli().stdout == cli("--help").stdout
    assert cli("--version").stdout == f"dramatiq-abort {dramatiq_abort.__version__}\n"
