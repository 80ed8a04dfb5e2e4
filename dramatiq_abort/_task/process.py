"""Subprocesses that are stopped when the message that started them is aborted."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from threading import Thread
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias

from .._protocol.request import milliseconds
from ..errors import Abort
from .cooperation import checkpoint, refuse_in_a_loop
from .current import current_execution

if TYPE_CHECKING:
    from types import TracebackType

    _Encoding: TypeAlias = tuple[str, str] | None

__all__ = ["run_process"]

#: How many bytes to read or write at once. A pipe that is ready for writing accepts PIPE_BUF bytes without blocking.
_PIECE: Final = 32_768
_PIPE_BUF: Final = getattr(selectors, "PIPE_BUF", 512)

#: Maximum length of a wait, in seconds: other exceptions (TimeLimit) are raised between two waits.
_LONGEST_WAIT: Final = 1.0

#: Interval at which to check whether the last process of a group has ended, in seconds: nothing signals that.
_GROUP_CHECK: Final = 0.01

#: How long to read the rest of the output after the group was killed, in seconds: a process that has left the group may
#: keep the pipes open indefinitely.
_LAST_READ: Final = 1.0


def run_process(
    args: Any,
    *,
    input: Any = None,  # noqa: A002 - as in subprocess.run
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    abort_grace: int = 5_000,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run a program as ``subprocess.run()`` does, and stop it when the current message is aborted.

    ::

        run_process(["ffmpeg", "-i", source, target], check=True)

    The program runs in its own session and process group. When the message is aborted, the whole group gets SIGTERM,
    and after ``abort_grace`` SIGKILL. Then ``Abort`` is raised; its ``process`` attribute has the exit status and the
    output so far. Inside a shield, the program runs to its end. Any other exception raised in this function, such as
    ``TimeoutExpired`` or the message's time limit, kills the group at once. There is no busy waiting, and only
    processes that have left the group themselves can remain.

    Parameters:
      args, input, capture_output, check: As for ``subprocess.run()``.
      timeout: As for ``subprocess.run()``: in seconds.
      abort_grace: How many milliseconds after SIGTERM the group is killed.
      **options: All others of ``subprocess.run()``, except those that select a session or a process group.

    Returns:
      CompletedProcess: As from ``subprocess.run()``.

    Raises:
      Abort: If there is an abort request for the message, and its grace period is over.
      CalledProcessError: If ``check`` is true and the exit status of the program is not 0.
      TimeoutExpired: If the program takes longer than ``timeout``.
      NotImplementedError: On Windows, which has no POSIX process groups and no SIGTERM.
      RuntimeError: If called in a coroutine, where it would block the event loop.
      TypeError, ValueError: If parameters are invalid or exclude each other.
    """
    if os.name != "posix":
        raise NotImplementedError(
            "run_process() needs POSIX process groups: use subprocess.run(), which an abort does not stop"
        )
    milliseconds("abort_grace", abort_grace, at_least=0)
    if input is not None and options.get("stdin") is not None:
        raise ValueError("stdin and input cannot both be given")
    if capture_output and not (options.get("stdout") is None and options.get("stderr") is None):
        raise ValueError("stdout and stderr cannot be given together with capture_output")
    if not options.get("start_new_session", True) or options.get("process_group") is not None:
        raise ValueError(
            "run_process() starts the program in its own session: start_new_session and process_group are not supported"
        )
    refuse_in_a_loop(
        "run_process()",
        asyncio="asyncio.to_thread(run_process, ...)",
        trio="trio.to_thread.run_sync(run_process, ...)",
    )
    if input is not None:
        options["stdin"] = subprocess.PIPE
    if capture_output:
        options["stdout"] = options["stderr"] = subprocess.PIPE
    options["start_new_session"] = True
    deadline = None if timeout is None else time.monotonic() + timeout
    execution = current_execution()
    with _Child(args, options, input, abort_grace) as child:
        with nullcontext() if execution is None else execution.bell(child.wake):
            while not child.is_done:
                checkpoint()
                if not child.wait(deadline):
                    raise subprocess.TimeoutExpired(child.args, timeout or 0.0, *child.output())
        completed = child.completed()
    if check:
        completed.check_returncode()
    return completed


class _Child:
    """A program, its pipes, and a bell that ends a wait for it.

    This is a context manager. Like those of any other, its ``__enter__`` and ``__exit__`` are protected code, with all
    that they call.
    """

    def __init__(self, args: Any, options: dict[str, Any], sent: Any, abort_grace: int) -> None:
        self.args = args
        self._options = options
        self._sent = sent
        self._abort_grace = abort_grace / 1000
        self._received: dict[Any, list[bytes]] = {}
        self._pidfd: int | None = None
        self._pipes = 0

    def __enter__(self) -> _Child:  # noqa: PYI034 - typing has no Self on 3.10
        with ExitStack() as stack:
            self._selector = stack.enter_context(selectors.DefaultSelector())
            self._bell, self._rope = map(stack.enter_context, socket.socketpair())
            self._rope.settimeout(0)
            self._selector.register(self._bell, selectors.EVENT_READ, self._answer)
            self._process = subprocess.Popen(self.args, **self._options)  # noqa: S603 - the caller chooses the program
            stack.callback(self._close)
            stack.push(self._kill_after_an_error)
            self._encoding = _encoding(self._process.stdout or self._process.stderr or self._process.stdin)
            for stream in (self._process.stdout, self._process.stderr):
                if stream is not None:
                    self._received[stream] = []
                    self._register(stream, selectors.EVENT_READ, self._read)
            if self._process.stdin is not None:
                self._unsent = memoryview(_bytes(self._encoding, self._sent))
                self._register(self._process.stdin, selectors.EVENT_WRITE, self._write)
            self._watch_for_exit()
            self._closing = stack.pop_all()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._closing:
            if isinstance(exc, Abort):
                self._stop()
            if exc is not None:
                self._kill()
        if isinstance(exc, Abort):
            exc.process = self.completed()

    @property
    def is_done(self) -> bool:
        return self._process.returncode is not None and not self._pipes

    def wake(self) -> None:
        """End a wait, from any thread."""
        with suppress(OSError):  # the socket is full of earlier signals, or closed because the wait is over
            self._rope.send(b"!")

    def wait(self, deadline: float | None) -> bool:
        """Read and write until something has happened, and return whether that was before the deadline."""
        left = _LONGEST_WAIT if deadline is None else min(_LONGEST_WAIT, deadline - time.monotonic())
        for key, _ in self._selector.select(max(left, 0)):
            key.data(key.fileobj)
        return deadline is None or self.is_done or time.monotonic() < deadline

    def output(self) -> tuple[Any, Any]:
        """Return the output so far on stdout and stderr, each None if it is not captured."""
        out, err = self._process.stdout, self._process.stderr
        return _text(self._encoding, self._received.get(out)), _text(self._encoding, self._received.get(err))

    def completed(self) -> subprocess.CompletedProcess[Any]:
        return subprocess.CompletedProcess(self.args, self._process.returncode, *self.output())

    def _stop(self) -> None:
        """Send SIGTERM to the group, and return when it has ended, or after the grace period."""
        deadline = time.monotonic() + self._abort_grace
        self._signal(signal.SIGTERM)
        while not self.is_done and self.wait(deadline):
            pass
        while self._signal(0) and time.monotonic() < deadline:
            time.sleep(_GROUP_CHECK)

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + _LAST_READ
        while not self.is_done and self.wait(deadline):
            pass

    def _signal(self, number: int) -> bool:
        """Send a signal to the group, and return whether it contains any processes.

        The system does not reuse the group's number while it contains processes, nor immediately afterwards.
        """
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:  # macOS, for a process that has ended and has not been waited for
            return False
        return True

    def _watch_for_exit(self) -> None:
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except (AttributeError, OSError):  # not Linux, or an old kernel
            Thread(target=self._wake_at_exit, name="dramatiq-abort exit", daemon=True).start()
        else:
            self._selector.register(self._pidfd, selectors.EVENT_READ, self._reap)

    def _wake_at_exit(self) -> None:
        self._process.wait()
        self.wake()

    def _reap(self, pidfd: Any) -> None:
        self._selector.unregister(pidfd)
        self._process.wait()

    def _register(self, stream: IO[Any], event: int, act: Any) -> None:
        self._selector.register(stream, event, partial(act))
        self._pipes += 1

    def _unregister(self, stream: IO[Any]) -> None:
        self._selector.unregister(stream)
        self._pipes -= 1

    def _read(self, stream: IO[Any]) -> None:
        try:
            piece = os.read(stream.fileno(), _PIECE)
        except BlockingIOError:  # gevent's pipes are non-blocking
            return
        if piece:
            self._received[stream].append(piece)
        else:
            self._unregister(stream)

    def _write(self, stream: IO[Any]) -> None:
        try:
            self._unsent = self._unsent[os.write(stream.fileno(), self._unsent[:_PIPE_BUF]) :]
        except BlockingIOError:  # as in _read()
            return
        except BrokenPipeError:  # the program has closed its standard input
            self._unsent = self._unsent[:0]
        if not self._unsent:
            self._unregister(stream)
            stream.close()

    def _answer(self, bell: Any) -> None:
        bell.recv(_PIECE)

    def _kill_after_an_error(self, exc_type: type[BaseException] | None, *_: object) -> None:
        if exc_type is not None:
            self._kill()

    def _close(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def _encoding(stream: Any) -> _Encoding:
    """Return the encoding and the error handler of a pipe, or None if it is not in text mode.

    Call it before the pipe is closed: gevent's pipes have no attributes after that. They also have another type than
    those of ``subprocess``, so the type cannot be checked.
    """
    return (stream.encoding, stream.errors or "strict") if hasattr(stream, "encoding") else None


def _bytes(encoding: _Encoding, sent: Any) -> bytes:
    return bytes(sent or b"") if encoding is None else str(sent or "").encode(*encoding)


def _text(encoding: _Encoding, pieces: list[bytes] | None) -> Any:
    """Return the data read from a pipe as ``subprocess`` does: in text mode, decoded, with universal newlines."""
    if pieces is None:
        return None
    received = b"".join(pieces)
    if encoding is None:
        return received
    text = received.decode(*encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")
