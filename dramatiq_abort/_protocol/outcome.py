"""What became of a message that somebody has asked to abort, and how it is written in bytes."""

from __future__ import annotations

import enum
import json
from typing import Any, Final, NamedTuple

from ..errors import InvalidRequest
from .json_fields import number_of, object_of, text_of
from .request import key_of

__all__ = ["Outcome", "OutcomeState", "outcome_key"]

#: A longer outcome than this is none of ours, in bytes.
_MAX_OUTCOME: Final = 8192


class OutcomeState(enum.Enum):
    """What became of it."""

    PENDING = "pending"
    """No worker has answered: it still waits, or runs, or was over before, or its worker is dead."""

    SKIPPED = "skipped"
    """It was aborted before its start, or another middleware or the broker has ended it there."""

    ABORTED = "aborted"
    """Its function was interrupted, and has ended."""

    COMPLETED = "completed"
    """It has finished, before the abort or in spite of it."""

    FAILED = "failed"
    """It raised something else. It is not tried again."""


class Outcome(NamedTuple):
    """What became of one message, as its worker tells it.

    Times are in milliseconds since 1970, on the worker's clock, and None where there is none.

    Parameters:
      message_id: The message.
      state: What became of it.
      actor, queue: The names of its actor and its queue.
      worker: Who tells it: the host's name and the process id.
      enqueued: When the message was made, on the clock of whoever made it.
      started: When the worker took it.
      requested: When the worker heard of the request.
      ended: When it was over.
      latency: How many milliseconds it was from when the worker heard of the request to the end of a message that was
        aborted.
      exception: The type of what its function raised, if that was not ``Abort``.
      reason: Why it was to be aborted, if that was said.
      by: Who has asked, if that was said.
    """

    message_id: str
    state: OutcomeState = OutcomeState.PENDING
    actor: str | None = None
    queue: str | None = None
    worker: str | None = None
    enqueued: int | None = None
    started: int | None = None
    requested: int | None = None
    ended: int | None = None
    latency: float | None = None
    exception: str | None = None
    reason: str | None = None
    by: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether a worker has told."""
        return self.state is not OutcomeState.PENDING

    def asdict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return self._asdict() | {"state": self.state.value}

    def encode(self) -> bytes:
        fields = {name: value for name, value in self.asdict().items() if value is not None}
        # Whatever an actor's or an exception's name is, this is short enough to be read.
        for name in ("actor", "queue", "exception"):
            if name in fields:
                fields[name] = fields[name][:256]
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, message_id: str, text: bytes) -> Outcome:
        """Read what may come from anybody.

        Raises:
          InvalidRequest: When it is none.
        """
        fields = object_of(text, _MAX_OUTCOME)
        try:
            state = OutcomeState(fields.get("state"))
        except ValueError as error:
            raise InvalidRequest(f"no outcome: {text[:80]!r}") from error
        texts: dict[str, Any] = {
            name: text_of(fields.get(name)) for name in ("actor", "queue", "worker", "exception", "reason", "by")
        }
        times: dict[str, Any] = {
            name: number_of(fields.get(name)) for name in ("enqueued", "started", "requested", "ended")
        }
        latency = fields.get("latency")
        return cls(message_id, state, **texts, **times, latency=None if number_of(latency) is None else latency)


def outcome_key(message_id: str) -> bytes:
    """Return the name of the note that tells of a message.

    Raises:
      TypeError, ValueError: As ``key_of`` does.
    """
    return b"outcome:" + key_of(message_id)
