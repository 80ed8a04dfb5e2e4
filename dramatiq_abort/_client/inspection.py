"""Ask the workers which messages they are running."""

from __future__ import annotations

import time
import uuid
from operator import attrgetter
from typing import TYPE_CHECKING

from .._protocol.event import Event
from .._protocol.request import milliseconds
from .._protocol.snapshot import QUESTION, WITH_ARGUMENTS, RunningMessage, Snapshot, answer_name, answer_of, worker_of
from ..backends.base import reply_store_of
from ..backends.errors import backend_errors
from .middleware import resolve_middleware

if TYPE_CHECKING:
    from .._middleware.abortable import Abortable

__all__ = ["running"]


def running(middleware: Abortable | None = None, *, arguments: bool = False, timeout: int = 1_000) -> Snapshot:
    """Ask all worker processes which messages they are running.

    Parameters:
      middleware: The ``Abortable`` of their broker; without it, the default broker's.
      arguments: Whether to tell the messages' arguments, too, each in up to 200 characters.
      timeout: For how many milliseconds to wait for the last answer.

    Returns:
      Snapshot: The messages, the workers that have answered, and those that have not.

    Raises:
      TypeError: When the timeout is no integer.
      ValueError: When it is negative or too long.
      ConfigurationError: A ``RuntimeError``: when no ``Abortable`` is to be found.
      BackendError: When the event backend does not answer. Its own error is the cause.
      UnsupportedByBackend: When workers cannot be asked by the event backend.
    """
    milliseconds("timeout", timeout, at_least=0)
    backend = resolve_middleware(middleware).backend
    reply_store = reply_store_of(backend)
    question = uuid.uuid4().hex[:16]
    deadline = time.monotonic() + timeout / 1000
    messages: list[RunningMessage] = []
    with backend_errors("nobody could be asked what is running"):
        workers = {answer_name(question, entry): worker_of(entry) for entry in reply_store.workers()}
        said = WITH_ARGUMENTS if arguments else b""
        asked, asked_at = time.monotonic(), int(time.time() * 1000)
        backend.signal([Event(QUESTION + question.encode(), said, max(timeout, 1))])
        unresponsive = set(workers)
        while unresponsive:
            left = max(0, int((deadline - time.monotonic()) * 1000))
            heard = reply_store.wait(unresponsive, left)
            took = (time.monotonic() - asked) * 1000
            for name, answer in heard.items():
                workers[name], theirs = answer_of(workers[name], answer, took)
                messages += theirs
            unresponsive -= heard.keys()
            if not heard and not left:
                break
    names = attrgetter("worker")
    return Snapshot(sorted(messages, key=attrgetter("started")), sorted(workers.values(), key=names), asked_at)
