"""Blocking calls: an abort interrupts them from CPython 3.15 on, by a signal to their thread, and under gevent."""

from __future__ import annotations

import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
import redis
from support import GREENLETS, PATIENCE, needs_threads, result_of, run_forever, wait_until_it_waits

from dramatiq_abort import Abort, Abortable, abort
from dramatiq_abort._core import blocking_calls
from dramatiq_abort.backends import StubBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dramatiq.brokers.stub import StubBroker

    from dramatiq_abort import EventBackend

pytestmark = pytest.mark.usefixtures("core")

needs_the_signal = pytest.mark.skipif(
    not blocking_calls.SUPPORTED or GREENLETS, reason="no signal interrupts a call here"
)


@pytest.fixture
def make_backend() -> Callable[[], EventBackend]:
    """Return a single backend: the origin of the request makes no difference here."""
    backend = StubBackend()
    return lambda: backend


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def sleep(pair: Any, url: str) -> None:
    time.sleep(3600)


def receive(pair: Any, url: str) -> None:
    pair[0].recv(1)


def receive_with_a_timeout(pair: Any, url: str) -> None:
    pair[0].settimeout(3600)
    pair[0].recv(1)


def wait_in_select(pair: Any, url: str) -> None:
    select.select([pair[0]], [], [])


def wait_in_poll(pair: Any, url: str) -> None:
    poll = select.poll()
    poll.register(pair[0], select.POLLIN)
    poll.poll()


def read_a_pipe(pair: Any, url: str) -> None:
    reading, writing = os.pipe()
    try:
        os.read(reading, 1)
    finally:
        os.close(reading)
        os.close(writing)


def wait_for_a_process(pair: Any, url: str) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]) as process:
        try:
            process.wait()
        finally:
            process.kill()


def ask_redis(pair: Any, url: str) -> None:
    with redis.Redis.from_url(url, socket_timeout=None) as client:
        client.blpop([f"nothing-{time.monotonic()}"], 0)


@pytest.mark.skipif(not (blocking_calls.SUPPORTED or GREENLETS), reason="nothing interrupts a call here")
@pytest.mark.parametrize(
    "block",
    [
        sleep,
        receive,
        receive_with_a_timeout,
        wait_in_select,
        wait_in_poll,
        pytest.param(read_a_pipe, marks=needs_threads),
        wait_for_a_process,
        ask_redis,
    ],
)
def test_an_abort_interrupts_a_call(block: Any, worker: dramatiq.Worker, pair: Any, redis_url: str) -> None:
    """An abort interrupts a call that would block for an hour or forever."""
    threads: list[threading.Thread] = []
    started = threading.Event()

    @dramatiq.actor
    def task() -> None:
        threads.append(threading.current_thread())
        started.set()
        block(pair, redis_url)

    message = task.send()
    assert started.wait(PATIENCE)
    wait_until_it_waits(threads[0])
    abort(message.message_id)

    assert result_of(message) == ("Abort", f"message {message.message_id} was aborted")


@needs_the_signal
@pytest.mark.parametrize("kind", ["lock", "event", "queue"])
def test_locks_are_waited_for_as_before(kind: str, worker: dramatiq.Worker) -> None:
    """Waits for locks are not interrupted: the abort is raised when they return."""
    started = threading.Event()
    lasted: list[float] = []
    lock = threading.Lock()
    lock.acquire()

    @dramatiq.actor
    def task() -> None:
        before = time.monotonic()
        started.set()
        try:
            if kind == "lock":
                lock.acquire(timeout=0.3)
            elif kind == "event":
                threading.Event().wait(0.3)
            else:
                queue.Queue[None]().get(timeout=0.3)
            run_forever()
        except Abort:
            lasted.append(time.monotonic() - before)
            raise

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    assert lasted[0] >= 0.3


@needs_the_signal
def test_the_signal_is_left_as_it_was_found(start_worker: Any) -> None:
    """The signal's handler is restored when the last worker has stopped."""
    assert signal.getsignal(signal.SIGURG) is signal.SIG_DFL
    first, second = start_worker(), start_worker()
    assert signal.getsignal(signal.SIGURG) is not signal.SIG_DFL
    first.stop()
    assert signal.getsignal(signal.SIGURG) is not signal.SIG_DFL
    second.stop()

    assert signal.getsignal(signal.SIGURG) is signal.SIG_DFL
    assert blocking_calls.signal_number() == 0


@needs_the_signal
@pytest.mark.parametrize("is_before", [True, False])
def test_a_handler_of_the_programs_own_stays(
    is_before: bool, start_worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The program's own handler stays and is not called, whether installed before or after the worker's start."""
    called: list[int] = []
    caplog.set_level("INFO")

    def handle(number: int, frame: object) -> None:
        called.append(number)

    @dramatiq.actor
    def task() -> None:
        while True:
            time.sleep(0.001)

    try:
        if is_before:
            signal.signal(signal.SIGURG, handle)
        worker = start_worker()
        if not is_before:
            signal.signal(signal.SIGURG, handle)
        message = task.send()
        abort(message.message_id)
        result_of(message)
        worker.stop()

        assert signal.getsignal(signal.SIGURG) is handle
        assert not is_before or "handles SIGURG itself" in caplog.text
        assert called == []
    finally:
        signal.signal(signal.SIGURG, signal.SIG_DFL)


@needs_the_signal
def test_it_can_be_switched_off(broker: StubBroker, abortable: Abortable, start_worker: Any) -> None:
    """With ``interrupt_blocking_calls=False``, a call is not interrupted."""
    abortable.interrupt_blocking_calls = False
    start_worker()
    started = threading.Event()
    lasted: list[float] = []

    @dramatiq.actor
    def task() -> None:
        before = time.monotonic()
        started.set()
        try:
            time.sleep(0.3)
            run_forever()
        except Abort:
            lasted.append(time.monotonic() - before)
            raise

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    assert signal.getsignal(signal.SIGURG) is signal.SIG_DFL
    assert lasted[0] >= 0.3


@pytest.mark.skipif(blocking_calls.SUPPORTED and not GREENLETS, reason="that is another interpreter's")
def test_nothing_is_installed_where_it_does_nothing(worker: dramatiq.Worker) -> None:
    """No handler is installed where the signal has no effect."""
    assert blocking_calls.signal_number() == 0
    assert blocking_calls.SUPPORTED or not blocking_calls.install()
    if hasattr(signal, "SIGURG"):
        assert signal.getsignal(signal.SIGURG) is signal.SIG_DFL


@needs_threads
def test_another_thread_cannot_install_it() -> None:
    """No handler is installed from another thread, which Python forbids; the worker runs without it."""
    installed: list[bool] = []
    thread = threading.Thread(target=lambda: installed.append(blocking_calls.install()))
    thread.start()
    thread.join()

    assert installed == [False]
