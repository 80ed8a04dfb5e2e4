"""Snapshots of the running messages, and the decoding of the replies that they consist of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .._protocol.event import BROADCAST_PREFIX
from .._protocol.reply import MAX_REPLY
from ..errors import InvalidRequest
from .json_fields import number_of, object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "QUESTION",
    "WITH_ARGUMENTS",
    "RunningMessage",
    "Snapshot",
    "WorkerProcess",
    "answer_name",
    "answer_of",
    "worker_of",
]

#: Prefix of the keys of questions, which every worker answers, and the value of one that asks for arguments, too.
QUESTION: Final = BROADCAST_PREFIX + b"running:"
WITH_ARGUMENTS: Final = b"arguments"

#: The fields of a registered worker.
_ABOUT: Final = ("worker", "version", "core", "python", "dramatiq")


class RunningMessage(NamedTuple):
    """A running message.

    Parameters:
      message_id: The id of the message.
      actor, queue: The names of its actor and queue.
      worker: The worker process that runs it: host name and process id.
      enqueued: When the message was created, in milliseconds since 1970, on the clock of the program that created it;
        None if unknown.
      started: When the worker started the message, in milliseconds since 1970, on the worker's clock.
      age: How many milliseconds the message has been running, measured by the worker's clock alone.
      grace_left: How many milliseconds of the grace period are left; 0 while the message is being aborted; None if it
        is not to be aborted.
      reason, by: The reason and the requester of the abort; None if not given.
      arguments: The arguments as text; None unless ``running(arguments=True)`` asked for them.
    """

    message_id: str
    actor: str
    queue: str
    worker: str
    enqueued: int | None
    started: int
    age: int
    grace_left: int | None = None
    reason: str | None = None
    by: str | None = None
    arguments: tuple[str, ...] | None = None

    @property
    def state(self) -> str:
        """``running``, ``to be aborted`` during the grace period, or ``aborting``."""
        if self.grace_left is None:
            return "running"
        return "to be aborted" if self.grace_left else "aborting"

    def asdict(self) -> dict[str, Any]:
        """Return the fields as a dict that can be serialized as JSON."""
        return self._asdict() | {"state": self.state}


class WorkerProcess(NamedTuple):
    """A worker process.

    Parameters:
      worker: Host name and process id.
      version: The version of dramatiq-abort.
      core: The core in use: ``cython`` or ``python``.
      python, dramatiq: The versions of Python and dramatiq.
      now: The worker's clock when it replied, in milliseconds since 1970; None if it has not replied.
      reply_ms: How many milliseconds the reply took; None if the worker has not replied.
      omitted: How many running messages did not fit into the reply.
    """

    worker: str
    version: str = "?"
    core: str = "?"
    python: str = "?"
    dramatiq: str = "?"
    now: int | None = None
    reply_ms: float | None = None
    omitted: int = 0

    def asdict(self) -> dict[str, Any]:
        """Return the fields as a dict that can be serialized as JSON."""
        return self._asdict()


class Snapshot:
    """The running messages, in the order of their start, and the worker processes.

    Iterating over a snapshot yields its messages, and ``len()`` counts them.

    Parameters:
      messages: The running messages of the workers that replied.
      workers: All registered worker processes, including those that did not reply.
      asked: When the workers were asked, in milliseconds since 1970, on the caller's clock.
    """

    # Not a dataclass, for the same reason as AbortRule.
    __slots__ = ("asked", "messages", "workers")

    def __init__(
        self,
        messages: Iterable[RunningMessage] = (),
        workers: Iterable[WorkerProcess] = (),
        asked: int | None = None,
    ) -> None:
        self.messages: list[RunningMessage] = list(messages)
        self.workers: list[WorkerProcess] = list(workers)
        self.asked: int | None = asked

    def __repr__(self) -> str:
        return f"Snapshot({self.messages!r}, {self.workers!r}, {self.asked!r})"

    @property
    def unresponsive(self) -> list[WorkerProcess]:
        """The workers that did not reply: they died less than a minute ago, are disconnected, or are too busy."""
        return [worker for worker in self.workers if worker.reply_ms is None]

    def asdict(self) -> dict[str, Any]:
        """Return the messages and the workers as a dict that can be serialized as JSON."""
        return {
            "messages": [message.asdict() for message in self.messages],
            "workers": [worker.asdict() for worker in self.workers],
            "unresponsive": [worker.worker for worker in self.unresponsive],
            "asked": self.asked,
        }

    def __iter__(self) -> Iterator[RunningMessage]:
        return iter(self.messages)

    def __len__(self) -> int:
        return len(self.messages)


def answer_name(question: str, entry: bytes) -> bytes:
    """Return the name of the reply of a worker to a question. ``entry`` is the worker as registered."""
    return f"running:{question}:".encode() + entry


def worker_of(entry: bytes) -> WorkerProcess:
    """Decode a registered worker from untrusted bytes."""
    about = _object(entry)
    known: dict[str, Any] = {name: text for name in _ABOUT if (text := text_of(about.get(name))) is not None}
    return WorkerProcess(**{"worker": f"{entry[:80]!r}"} | known)


def answer_of(worker: WorkerProcess, answer: bytes, reply_ms: float) -> tuple[WorkerProcess, list[RunningMessage]]:
    """Decode the reply of a worker from untrusted bytes, leaving out whatever is malformed."""
    fields = _object(answer)
    now, omitted, listed = number_of(fields.get("now")), number_of(fields.get("omitted")), fields.get("messages")
    if now is None or omitted is None or not isinstance(listed, list):
        return worker, []
    messages = [message for each in listed if (message := _message(each, worker.worker, now)) is not None]
    return worker._replace(now=now, reply_ms=reply_ms, omitted=omitted), messages


def _message(fields: object, worker: str, now: int) -> RunningMessage | None:
    if not isinstance(fields, dict):
        return None
    message_id, actor, queue = (text_of(fields.get(name)) for name in ("message_id", "actor", "queue"))
    started, arguments = number_of(fields.get("started")), fields.get("arguments")
    if message_id is None or actor is None or queue is None or started is None:
        return None
    return RunningMessage(
        message_id,
        actor,
        queue,
        worker=worker,
        enqueued=number_of(fields.get("enqueued")),
        started=started,
        age=max(0, now - started),
        grace_left=number_of(fields.get("grace_left")),
        reason=text_of(fields.get("reason")),
        by=text_of(fields.get("by")),
        arguments=tuple(map(str, arguments)) if isinstance(arguments, list) else None,
    )


def _object(text: bytes) -> dict[str, Any]:
    try:
        return object_of(text, MAX_REPLY)
    except InvalidRequest:
        return {}
