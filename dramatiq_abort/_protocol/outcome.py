"""Outcomes of messages with an abort request, and their encoding."""

from __future__ import annotations

import enum
import json
from typing import Any, Final, NamedTuple

from ..errors import InvalidRequest
from .json_fields import number_of, object_of, text_of
from .request import key_of

__all__ = ["Outcome", "OutcomeState", "outcome_key"]

#: Maximum length of an encoded outcome, in bytes. A longer one is rejected as malformed.
_MAX_OUTCOME: Final = 8192


class OutcomeState(enum.Enum):
    """What became of a message that was to be aborted."""

    PENDING = "pending"
    """No worker has replied: the message is waiting or running, had ended before, or its worker is dead."""

    SKIPPED = "skipped"
    """The message was aborted before its start, or another middleware or the broker ended it there."""

    ABORTED = "aborted"
    """The function was interrupted, and has ended."""

    COMPLETED = "completed"
    """The function returned, before the abort or in spite of it."""

    FAILED = "failed"
    """The function raised something else. The message is not retried."""


class Outcome(NamedTuple):
    """What became of a message that was to be aborted, as reported by its worker.

    Times are in milliseconds since 1970, on the worker's clock unless stated otherwise. Unknown fields are None.

    Parameters:
      message_id: The id of the message.
      state: What became of the message.
      actor, queue: The names of its actor and queue.
      worker: The worker process that reports it: host name and process id.
      enqueued: When the message was created, on the clock of the program that created it.
      started: When the worker started the message.
      requested: When the worker received the request.
      ended: When the message ended.
      latency: For an aborted message, the milliseconds from the receipt of the request to the end of the message.
      exception: The type of the exception that the function raised, unless it was ``Abort``.
      reason: The ``reason`` of the request.
      by: The requester.
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
        """Whether a worker has reported the outcome: the state is not ``PENDING``."""
        return self.state is not OutcomeState.PENDING

    def asdict(self) -> dict[str, Any]:
        """Return the fields as a dict that can be serialized as JSON."""
        return self._asdict() | {"state": self.state.value}

    def encode(self) -> bytes:
        fields = {name: value for name, value in self.asdict().items() if value is not None}
        # Long names are cut, so that the outcome never exceeds the length that decode() accepts.
        for name in ("actor", "queue", "exception"):
            if name in fields:
                fields[name] = fields[name][:256]
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, message_id: str, text: bytes) -> Outcome:
        """Decode an outcome from untrusted bytes.

        Raises:
          InvalidRequest: If they are not a valid outcome.
        """
        fields = object_of(text, _MAX_OUTCOME)
        try:
            state = OutcomeState(fields.get("state"))
        except ValueError as error:
            raise InvalidRequest(f"not an outcome: {text[:80]!r}") from error
        texts: dict[str, Any] = {
            name: text_of(fields.get(name)) for name in ("actor", "queue", "worker", "exception", "reason", "by")
        }
        times: dict[str, Any] = {
            name: number_of(fields.get(name)) for name in ("enqueued", "started", "requested", "ended")
        }
        latency = fields.get("latency")
        return cls(message_id, state, **texts, **times, latency=None if number_of(latency) is None else latency)


def outcome_key(message_id: str) -> bytes:
    """Return the name of the reply that contains the outcome of a message.

    Raises:
      TypeError, ValueError: As for ``key_of()``.
    """
    return b"outcome:" + key_of(message_id)
