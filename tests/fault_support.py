"""Helpers for the tests of faults: a network that fails, and a worker that is observed meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
import redis
from dramatiq.middleware import Retries
from dramatiq.results import ResultFailure, ResultMissing, Results
from dramatiq.results.backends import StubBackend as StubResults
from support import PATIENCE, result_of, run_forever, stub_broker, wait_until

from dramatiq_abort import Abortable, AbortMode, BackendError, abort
from dramatiq_abort.backends import RedisBackend

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from dramatiq.message import Message

#: The clients' timeout for a reply, in seconds.
TIMEOUT = 3.0

#: The delay that a busy machine may add, in seconds.
NOISE = 3.0

#: The time in which a worker must recover after the server, in seconds.
RECOVERY = 2.0


class Proxy:
    """The network between a server and its clients: it passes everything on until it fails.

    ======== ================================================================================
    refuse   connections are refused, and existing ones are cut
    drop     each connection is accepted, then cut
    cut      only the first half of each reply arrives, then the connection is cut
    swallow  data is lost without an error, and existing connections stay like that
    ======== ================================================================================
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self._failure = ""
        self._delay = 0.0
        self._swallowed = 0
        self._connections: set[socket.socket] = set()
        #: The times of connections, in seconds on the monotonic clock.
        self.attempts: list[float] = []
        self._listener = self._listen(0)
        self.port = int(self._listener.getsockname()[1])

    def close(self) -> None:
        self._cut_all(self._listener)

    @contextmanager
    def failing(self, how: str) -> Iterator[None]:
        """Fail in one way during the ``with`` block, and work again afterwards."""
        self._failure = how
        if how == "refuse":
            self._cut_all(self._listener)
        elif how != "swallow":
            self._cut_all()
        self.attempts.clear()
        try:
            yield
        finally:
            self._swallowed += how == "swallow"
            self._failure = ""
            if how == "refuse":
                self._listener = self._listen(self.port)

    @contextmanager
    def slow(self, delay: float) -> Iterator[None]:
        """Delay each reply by this number of seconds."""
        self._delay = delay
        try:
            yield
        finally:
            self._delay = 0.0

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # the listener's end
            while True:
                client, _ = listener.accept()
                self.attempts.append(time.monotonic())
                self._connections.add(client)
                try:
                    if self._failure == "drop":
                        raise ConnectionError
                    server = socket.create_connection(("127.0.0.1", self._server))
                except OSError:
                    self._cut(client)
                    continue
                self._connections.add(server)
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(source, sink, source is server), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        is_lost, swallowed = False, self._swallowed
        with suppress(OSError):  # the connection's end
            while words := source.recv(65536):
                if self._delay and is_answer:
                    time.sleep(self._delay)
                is_lost = is_lost or self._swallowed != swallowed or self._failure == "swallow"
                if is_lost:
                    continue
                if self._failure == "cut" and is_answer:
                    sink.sendall(words[: len(words) // 2])
                    break
                sink.sendall(words)
        if not is_lost:
            self._cut(source)
            self._cut(sink)

    def _cut_all(self, *others: socket.socket) -> None:
        for connection in (*others, *self._connections):
            self._cut(connection)

    def _cut(self, connection: socket.socket) -> None:
        self._connections.discard(connection)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # close() alone does not end another thread's accept() or recv()
        connection.close()


class Bench:
    """A real worker, a client that aborts its messages over its own connection, and the log."""

    def __init__(self, caplog: pytest.LogCaptureFixture, worker_client: redis.Redis, client: redis.Redis) -> None:
        caplog.set_level("INFO", "dramatiq_abort")
        self._caplog = caplog
        self.started: set[str] = set()
        self.backend = RedisBackend(client=worker_client)
        self.requester = Abortable(backend=RedisBackend(client=client))
        self.broker = stub_broker(
            Retries(), Results(backend=StubResults(), store_results=True), Abortable(backend=self.backend)
        )
        dramatiq.set_broker(self.broker)

        def quick() -> str:
            return "ran"

        def endless(name: str) -> None:
            self.started.add(name)
            run_forever()

        self.quick = dramatiq.actor(quick)
        self.endless = dramatiq.actor(endless)
        self.worker = dramatiq.Worker(self.broker, worker_timeout=50, worker_threads=8)
        self.worker.start()

    def close(self) -> None:
        self.worker.stop(timeout=5_000)
        dramatiq.set_broker(None)  # type: ignore[arg-type]
        self.broker.close()
        self.backend.client.close()
        self.requester.backend.client.close()  # type: ignore[attr-defined]

    def start_endless(self, name: str = "running") -> Message[Any]:
        """Send a message, and return it once it is running."""
        message = self.endless.send(name)
        wait_until(lambda: name in self.started, "the start")
        return message

    def abort(
        self, message: Message[Any], mode: AbortMode = AbortMode.ABORT, requester: Abortable | None = None
    ) -> None:
        abort(message.message_id, requester or self.requester, mode=mode)

    def runs_now(self, message: Message[Any]) -> Any:
        """Enqueue a message, and return its result: None if it was skipped."""
        self.broker.enqueue(message)
        return result_of(message)

    def fails_to_abort(self, message: Message[Any]) -> None:
        """Check that ``abort()`` raises an error with its cause, within the timeout."""
        began = time.monotonic()
        with pytest.raises(BackendError, match="was not aborted") as caught:
            self.abort(message)
        assert time.monotonic() - began < TIMEOUT + NOISE
        assert isinstance(caught.value.__cause__, redis.RedisError)

    def is_done(self, message: Message[Any]) -> bool:
        try:
            message.get_result()
        except ResultMissing:
            return False
        except ResultFailure:
            pass
        return True

    def log(self) -> list[str]:
        """Return the levels of the log records about the event backend."""
        return [record.levelname for record in self._caplog.records if "event backend" in record.message]

    def wait_for(self, *levels: str) -> None:
        wait_until(lambda: self.log() == list(levels), f"the log lines {levels}")

    @contextmanager
    def traffic(self) -> Iterator[None]:
        """Send messages all the time during the ``with`` block, and check that none is disturbed."""
        stopping = threading.Event()
        results: list[Any] = []
        durations: list[float] = [0.0]

        def run() -> None:
            while not stopping.wait(0.002):
                began = time.monotonic()
                results.append(result_of(self.quick.send()))
                durations.append(time.monotonic() - began)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            wait_until(lambda: results, "the first message")
            yield
        finally:
            stopping.set()
            thread.join(PATIENCE)
        assert set(results) == {"ran"}
        assert max(durations) < NOISE

    def survives(self, outage: AbstractContextManager[Any], *, keeps_data: bool = True) -> float:
        """Take the worker through an outage, and return the seconds from its end until the first abort took effect."""
        running, known, waiting = self.start_endless(), self.quick.message(), self.quick.message()
        self.abort(known)
        self.abort(waiting)
        assert self.runs_now(self.quick.message()) == "ran"
        wait_until(lambda: self.backend.poll(f"abort:{waiting.message_id}".encode()), "the worker to hear of it")
        with self.traffic():
            with outage:
                self.wait_for("ERROR")
                assert self.runs_now(known) is None
                self.fails_to_abort(running)
            back_at = time.monotonic()
            self.abort(running)
            assert result_of(running)[0] == "Abort"
            recovery = time.monotonic() - back_at
            self.wait_for("ERROR", "INFO")
            assert self.runs_now(waiting) is None
        assert self.log() == ["ERROR", "INFO"]
        assert recovery < RECOVERY + NOISE
        event = self.requester.backend.read(f"abort:{waiting.message_id}".encode())
        assert (event is not None) is keeps_data
        return recovery
