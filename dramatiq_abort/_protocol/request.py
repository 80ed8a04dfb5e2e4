"""What is asked of the workers, and how it is written in bytes."""

from __future__ import annotations

import enum
import json
from typing import Any, Final, NamedTuple

from ..errors import InvalidRequest
from .json_fields import object_of

__all__ = ["AbortMode", "AbortRequest", "key_of", "message_id_of", "milliseconds", "printable", "validate_text"]

#: How the key of an event begins that is about one message.
PREFIX: Final = b"abort:"

#: A longer value than this is none of ours, in bytes.
MAX_VALUE: Final = 8192

#: A longer key than this is refused, in bytes. Those of dramatiq's own message ids have 42.
MAX_KEY: Final = 512

#: A longer reason, or name of whoever asks, is refused, in characters: both have room in one value, however written.
MAX_TEXT: Final = 256

#: A longer time than this is refused, in milliseconds: 100 years.
MAX_TIME: Final = 100 * 365 * 24 * 3600 * 1000


class AbortMode(enum.Enum):
    """What shall become of a message that is running."""

    ABORT = "abort"
    """Skip the message if it is still waiting, interrupt it if it is running."""

    CANCEL = "cancel"
    """Skip the message if it is still waiting, let it be if it is running."""


class AbortRequest(NamedTuple):
    """The wish that a message stop.

    Parameters:
      mode: What shall become of the message if it is running.
      grace: For how many milliseconds a running message may go on, and finish by itself.
      ttl: For how many milliseconds the request stays readable, from its making.
      repeat: After how many milliseconds a message that goes on is interrupted again, and so on; None: as its worker's
        ``Abortable`` says.
      reason: Why, for those who read of it.
      by: Who asks.
    """

    mode: AbortMode = AbortMode.ABORT
    grace: int = 0
    ttl: int | None = None
    repeat: int | None = None
    reason: str | None = None
    by: str | None = None

    @property
    def attribution(self) -> str:
        """By whom and why, to be put behind what is said of the message; control characters are written out."""
        by = "" if self.by is None else f" by {printable(self.by)}"
        return by if self.reason is None else f"{by}: {printable(self.reason)}"

    @property
    def priority(self) -> int:
        """Whether it takes the place of another request for the same message: see ``backend.Event``.

        Any request skips a message that waits, so one that does no more leaves another's place alone.
        """
        if self.mode is AbortMode.CANCEL:
            return -1
        return 0 if self.grace else 1

    def encode(self) -> bytes:
        """Write the request in bytes: none at all for a plain abort, else JSON."""
        if self == AbortRequest(ttl=self.ttl):
            return b""
        return json.dumps(self.fields(), separators=(",", ":"), ensure_ascii=False).encode()

    def fields(self) -> dict[str, Any]:
        """Return what is to be written of it."""
        fields: dict[str, Any] = {"mode": self.mode.value}
        if self.grace:
            fields |= {"grace": self.grace, "ttl": self.ttl}
        if self.repeat is not None:
            fields["repeat"] = self.repeat
        for name, text in (("reason", self.reason), ("by", self.by)):
            if text is not None:
                fields[name] = text
        return fields

    @classmethod
    def decode(cls, value: bytes) -> AbortRequest:
        """Read a request from bytes that may come from anybody.

        Fields with other names are ignored: a later version may write them, and its aborts must not be lost.

        Raises:
          InvalidRequest: When the bytes are too many, no JSON, or have a field that cannot be.
        """
        if not value:
            return cls()
        return cls.from_fields(object_of(value, MAX_VALUE))

    @classmethod
    def from_fields(cls, fields: object) -> AbortRequest:
        """Make a request of what was written of it, or of anything else.

        Raises:
          InvalidRequest: When a field cannot be.
        """
        if not isinstance(fields, dict):
            raise InvalidRequest(f"no JSON object: {fields!r:.80}")
        try:
            mode = AbortMode(fields.get("mode", AbortMode.ABORT.value))
        except ValueError as error:
            raise InvalidRequest(f"no abort mode: {fields['mode']!r:.80}") from error
        grace = fields.get("grace", 0)
        ttl, repeat = fields.get("ttl"), fields.get("repeat")
        for name, time in (("grace", grace), ("ttl", ttl), ("repeat", repeat)):
            if time is not None and (type(time) is not int or not 0 <= time <= MAX_TIME):
                raise InvalidRequest(f"no time in milliseconds for {name}: {time!r:.80}")
        # Nobody's abort is lost for what is only said of it.
        reason, by = (fields.get(name) if _is_text(fields.get(name)) else None for name in ("reason", "by"))
        return cls(mode, grace or 0, ttl, repeat or None, reason, by)

    def grace_left(self, ttl_left: int | None) -> int:
        """How much of the grace period is left, in ms, when ``ttl_left`` ms of the time to live are left."""
        if self.ttl is None or ttl_left is None:
            return self.grace
        return max(0, self.grace - max(0, self.ttl - ttl_left))


def key_of(message_id: str) -> bytes:
    """Return the key by which an event backend knows a message.

    Raises:
      TypeError: When the message id is not a string.
      ValueError: When it is empty, too long, or cannot be written as UTF-8.
    """
    try:
        key = PREFIX + message_id.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"this message id cannot be written as UTF-8: {message_id!r:.80}") from error
    except (AttributeError, TypeError) as error:
        raise TypeError(f"a message id is a string, as in message.message_id, not {message_id!r:.80}") from error
    if not message_id or len(key) > MAX_KEY:
        raise ValueError(f"a message id has 1 to {MAX_KEY - len(PREFIX)} bytes, not {len(message_id.encode())}")
    return key


def message_id_of(key: bytes) -> str | None:
    """Return the id of the message that is known by this key, or None if it is no message's."""
    if not key.startswith(PREFIX):
        return None
    try:
        return key[len(PREFIX) :].decode()
    except UnicodeDecodeError:
        return None


def validate_text(name: str, said: str | None, *, at_most: int = MAX_TEXT) -> str | None:
    """Return a text that is to be said of a request, and has not more characters than that.

    Raises:
      TypeError: When it is no string.
      ValueError: When it is empty or too long, or cannot be written as UTF-8.
    """
    if said is not None and not isinstance(said, str):
        raise TypeError(f"{name} is a string, not {said!r:.80}")
    if said is not None and not _is_text(said, at_most):
        raise ValueError(f"{name} has 1 to {at_most} characters, which can be written as UTF-8, not {said!r:.80}")
    return said


def _is_text(said: object, at_most: int = MAX_TEXT) -> bool:
    return isinstance(said, str) and 0 < len(said) <= at_most and not any("\ud800" <= char <= "\udfff" for char in said)


def printable(said: str) -> str:
    """Return a text with its control characters, and all else that cannot be seen, written out."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in said)


def milliseconds(name: str, time: int, *, at_least: int) -> int:
    """Return a time that is one.

    Raises:
      TypeError: When it is no integer.
      ValueError: When it is shorter or longer than a time can be.
    """
    if type(time) is not int:
        raise TypeError(f"{name} is an integer, in milliseconds, not {time!r}")
    if not at_least <= time <= MAX_TIME:
        raise ValueError(f"{name} is from {at_least} to {MAX_TIME} milliseconds, not {time}")
    return time
