"""What the workers say that they are running, and how it is read from bytes."""

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

#: How the key of a question begins, which every worker answers, and what one says that asks for arguments, too.
QUESTION: Final = BROADCAST_PREFIX + b"running:"
WITH_ARGUMENTS: Final = b"arguments"

#: What an entry tells of a worker.
_ABOUT: Final = ("worker", "version", "core", "python", "dramatiq")


class RunningMessage(NamedTuple):
    """A message that a worker is running.

    Parameters:
      message_id: Its id.
      actor, queue: Their names.
      worker: Who runs it: the host's name and the process id.
      enqueued: When it was made, in milliseconds since 1970, on the clock of whoever made it; None: it does not
        say.
      started: When its worker took it, the same on the worker's clock.
      age: For how many milliseconds it has been running, by the worker's clock alone.
      grace_left: How many milliseconds it may still go on, 0 when it is being aborted; None: nobody has asked for that.
      reason, by: Why it is to be aborted and who has asked, if that was said.
      arguments: As texts, if they were asked for.
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
        """``running``, ``to be aborted`` while it may go on, or ``aborting``."""
        if self.grace_left is None:
            return "running"
        return "to be aborted" if self.grace_left else "aborting"

    def asdict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return self._asdict() | {"state": self.state}


class WorkerProcess(NamedTuple):
    """A worker process.

    Parameters:
      worker: The host's name and the process id.
      version, core: Of dramatiq-abort, and ``cython`` or ``python``.
      python, dramatiq: The versions.
      now: What its clock said when it answered, in milliseconds since 1970; None: it has not.
      took: How many milliseconds it took until its answer was there; None: the same.
      left_out: How many of its messages there was no room for.
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
        """Return the fields, for JSON."""
        return self._asdict()


class Snapshot:
    """The messages that run, in the order of their start, and the workers. Iterating is over the messages.

    Parameters:
      messages: Those of the workers that have answered.
      workers: All that are there.
      asked: When they were asked, in milliseconds since 1970, on the clock of whoever asked.
    """

    # No dataclass: see Rule.
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
        return f"Roll({self.messages!r}, {self.workers!r}, {self.asked!r})"

    @property
    def unresponsive(self) -> list[WorkerProcess]:
        """Those that have not answered: dead for less than a minute, cut off, or too busy."""
        return [worker for worker in self.workers if worker.reply_ms is None]

    def asdict(self) -> dict[str, Any]:
        """Return the messages and the workers, for JSON."""
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
    """Return the name of the note in which a worker, known by its entry on the roll, answers."""
    return f"running:{question}:".encode() + entry


def worker_of(entry: bytes) -> WorkerProcess:
    """Read an entry on the roll, which may come from anybody."""
    about = _object(entry)
    known: dict[str, Any] = {name: text for name in _ABOUT if (text := text_of(about.get(name))) is not None}
    return WorkerProcess(**{"worker": f"{entry[:80]!r}"} | known)


def answer_of(worker: WorkerProcess, answer: bytes, reply_ms: float) -> tuple[WorkerProcess, list[RunningMessage]]:
    """Read what a worker has answered, which may come from anybody: what is none is left out."""
    fields = _object(answer)
    now, omitted, said = number_of(fields.get("now")), number_of(fields.get("omitted")), fields.get("messages")
    if now is None or omitted is None or not isinstance(said, list):
        return worker, []
    messages = [message for each in said if (message := _message(each, worker.worker, now)) is not None]
    return worker._replace(now=now, reply_ms=reply_ms, omitted=omitted), messages


def _message(said: object, worker: str, now: int) -> RunningMessage | None:
    if not isinstance(said, dict):
        return None
    message_id, actor, queue = (text_of(said.get(name)) for name in ("message_id", "actor", "queue"))
    started, arguments = number_of(said.get("started")), said.get("arguments")
    if message_id is None or actor is None or queue is None or started is None:
        return None
    return RunningMessage(
        message_id,
        actor,
        queue,
        worker=worker,
        enqueued=number_of(said.get("enqueued")),
        started=started,
        age=max(0, now - started),
        grace_left=number_of(said.get("grace_left")),
        reason=text_of(said.get("reason")),
        by=text_of(said.get("by")),
        arguments=tuple(map(str, arguments)) if isinstance(arguments, list) else None,
    )


def _object(text: bytes) -> dict[str, Any]:
    try:
        return object_of(text, MAX_REPLY)
    except InvalidRequest:
        return {}
