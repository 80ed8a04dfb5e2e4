"""Abort requests and their encoding, and the keys of messages."""

from __future__ import annotations

import enum
import json
from typing import Any, Final, NamedTuple

from ..errors import InvalidRequest
from .json_fields import object_of

__all__ = ["AbortMode", "AbortRequest", "key_of", "message_id_of", "milliseconds", "printable", "validate_text"]

#: Prefix of the keys of events that are for one message.
PREFIX: Final = b"abort:"

#: Maximum length of a value, in bytes. A longer one is rejected as malformed.
MAX_VALUE: Final = 8192

#: Maximum length of a key, in bytes. The keys of dramatiq's own message ids have 42.
MAX_KEY: Final = 512

#: Maximum length of a reason and of a requester, in characters: both fit into one value, however they are escaped.
MAX_TEXT: Final = 256

#: Maximum time, in milliseconds: 100 years.
MAX_TIME: Final = 100 * 365 * 24 * 3600 * 1000


class AbortMode(enum.Enum):
    """What an abort request does to a running message. A waiting one is skipped in both modes."""

    ABORT = "abort"
    """Skip the message if it is waiting, and interrupt it if it is running."""

    CANCEL = "cancel"
    """Skip the message if it is waiting, and leave it alone if it is running."""


class AbortRequest(NamedTuple):
    """The instruction to stop a message.

    Parameters:
      mode: What to do if the message is running.
      grace: The grace period in milliseconds: the time that a running message is given to finish by itself.
      ttl: How long the request is in effect, in milliseconds from its creation.
      repeat: The interval in milliseconds at which a message that catches ``Abort`` and goes on is interrupted again;
        None for that of its worker's ``Abortable``.
      reason: The reason, for the people who read about the abort.
      by: The requester.
    """

    mode: AbortMode = AbortMode.ABORT
    grace: int = 0
    ttl: int | None = None
    repeat: int | None = None
    reason: str | None = None
    by: str | None = None

    @property
    def attribution(self) -> str:
        """The requester and the reason, to be appended to a log line or error; control characters are escaped."""
        by = "" if self.by is None else f" by {printable(self.by)}"
        return by if self.reason is None else f"{by}: {printable(self.reason)}"

    @property
    def priority(self) -> int:
        """Whether this request replaces another one for the same message: see ``Event.priority``.

        Any request skips a waiting message, so a request to cancel, which does no more, never replaces another one.
        """
        if self.mode is AbortMode.CANCEL:
            return -1
        return 0 if self.grace else 1

    def encode(self) -> bytes:
        """Encode the request: as no bytes for a plain abort, otherwise as JSON."""
        if self == AbortRequest(ttl=self.ttl):
            return b""
        return json.dumps(self.fields(), separators=(",", ":"), ensure_ascii=False).encode()

    def fields(self) -> dict[str, Any]:
        """Return the fields to be encoded."""
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
        """Decode a request from untrusted bytes.

        Unknown fields are ignored: a later version may write them, and its aborts must not be lost.

        Raises:
          InvalidRequest: If the value is too long, is not JSON, or has an invalid field.
        """
        if not value:
            return cls()
        return cls.from_fields(object_of(value, MAX_VALUE))

    @classmethod
    def from_fields(cls, fields: object) -> AbortRequest:
        """Create a request from untrusted fields, as returned by ``fields()``.

        Raises:
          InvalidRequest: If they are not a dict, or a field is invalid.
        """
        if not isinstance(fields, dict):
            raise InvalidRequest(f"not a JSON object: {fields!r:.80}")
        try:
            mode = AbortMode(fields.get("mode", AbortMode.ABORT.value))
        except ValueError as error:
            raise InvalidRequest(f"not an abort mode: {fields['mode']!r:.80}") from error
        grace = fields.get("grace", 0)
        ttl, repeat = fields.get("ttl"), fields.get("repeat")
        for name, time in (("grace", grace), ("ttl", ttl), ("repeat", repeat)):
            if time is not None and (type(time) is not int or not 0 <= time <= MAX_TIME):
                raise InvalidRequest(f"{name} is not a time in milliseconds: {time!r:.80}")
        # An invalid reason or requester is dropped, and the abort is kept.
        reason, by = (fields.get(name) if _is_text(fields.get(name)) else None for name in ("reason", "by"))
        return cls(mode, grace or 0, ttl, repeat or None, reason, by)

    def grace_left(self, ttl_left: int | None) -> int:
        """Return how much of the grace period is left, in ms, when ``ttl_left`` ms of the time to live are left."""
        if self.ttl is None or ttl_left is None:
            return self.grace
        return max(0, self.grace - max(0, self.ttl - ttl_left))


def key_of(message_id: str) -> bytes:
    """Return the key of the events for a message.

    Raises:
      TypeError: If the message id is not a str.
      ValueError: If it is empty, too long, or cannot be encoded as UTF-8.
    """
    try:
        key = PREFIX + message_id.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"message id {message_id!r:.80} cannot be encoded as UTF-8") from error
    except (AttributeError, TypeError) as error:
        raise TypeError(f"a message id must be a str, as in message.message_id, not {message_id!r:.80}") from error
    if not message_id or len(key) > MAX_KEY:
        raise ValueError(f"a message id must have 1 to {MAX_KEY - len(PREFIX)} bytes, not {len(message_id.encode())}")
    return key


def message_id_of(key: bytes) -> str | None:
    """Return the id of the message that events with this key are for, or None if they are not for one message."""
    if not key.startswith(PREFIX):
        return None
    try:
        return key[len(PREFIX) :].decode()
    except UnicodeDecodeError:
        return None


def validate_text(name: str, text: str | None, *, at_most: int = MAX_TEXT) -> str | None:
    """Return ``text`` if it is None or valid as the parameter ``name``.

    Raises:
      TypeError: If it is not a str.
      ValueError: If it is empty, has more than ``at_most`` characters, or cannot be encoded as UTF-8.
    """
    if text is not None and not isinstance(text, str):
        raise TypeError(f"{name} must be a str, not {text!r:.80}")
    if text is not None and not _is_text(text, at_most):
        raise ValueError(f"{name} must have 1 to {at_most} characters that can be encoded as UTF-8, not {text!r:.80}")
    return text


def _is_text(value: object, at_most: int = MAX_TEXT) -> bool:
    if not isinstance(value, str):
        return False
    return 0 < len(value) <= at_most and not any("\ud800" <= char <= "\udfff" for char in value)


def printable(text: str) -> str:
    """Return a text with its control characters, and any other unprintable ones, escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def milliseconds(name: str, time: int, *, at_least: int) -> int:
    """Return ``time`` if it is valid as the parameter ``name``.

    Raises:
      TypeError: If it is not an int.
      ValueError: If it is less than ``at_least`` or more than 100 years.
    """
    if type(time) is not int:
        raise TypeError(f"{name} must be an int (milliseconds), not {time!r}")
    if not at_least <= time <= MAX_TIME:
        raise ValueError(f"{name} must be from {at_least} to {MAX_TIME} milliseconds, not {time}")
    return time
