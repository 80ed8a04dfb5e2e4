"""Ask the workers for the messages that they are running."""

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
    """Return the messages that all worker processes are running now.

    It asks the workers, and returns as soon as all of them have replied, or after ``timeout``.

    ::

        snapshot = running()
        for message in snapshot:
            print(message.message_id, message.actor, message.worker, message.age)
        for worker in snapshot.unresponsive:
            print(worker.worker, "did not reply")

    Parameters:
      middleware: The ``Abortable`` of the workers' broker. Defaults to that of the default broker.
      arguments: Whether to include the arguments of the messages, each as up to 200 characters of text.
      timeout: How many milliseconds to wait for the last reply.

    Returns:
      Snapshot: The messages, the workers that replied, and those that did not.

    Raises:
      TypeError: If the timeout is not an int.
      ValueError: If it is negative or too long.
      ConfigurationError: If there is no ``Abortable`` to use. It is a ``RuntimeError``.
      BackendError: If the event backend fails. The backend's exception is the cause.
      UnsupportedByBackend: If the event backend has no reply store, or does not support broadcasts.
    """
    milliseconds("timeout", timeout, at_least=0)
    backend = resolve_middleware(middleware).backend
    reply_store = reply_store_of(backend)
    question = uuid.uuid4().hex[:16]
    deadline = time.monotonic() + timeout / 1000
    messages: list[RunningMessage] = []
    with backend_errors("the workers could not be asked for their running messages"):
        workers = {answer_name(question, entry): worker_of(entry) for entry in reply_store.workers()}
        value = WITH_ARGUMENTS if arguments else b""
        asked, asked_at = time.monotonic(), int(time.time() * 1000)
        backend.signal([Event(QUESTION + question.encode(), value, max(timeout, 1))])
        unresponsive = set(workers)
        while unresponsive:
            left = max(0, int((deadline - time.monotonic()) * 1000))
            replies = reply_store.wait(unresponsive, left)
            reply_ms = (time.monotonic() - asked) * 1000
            for name, reply in replies.items():
                workers[name], of_worker = answer_of(workers[name], reply, reply_ms)
                messages += of_worker
            unresponsive -= replies.keys()
            if not replies and not left:
                break
    messages.sort(key=attrgetter("started"))
    return Snapshot(messages, sorted(workers.values(), key=attrgetter("worker")), asked_at)
