"""A request for all messages of a kind, and how it is written in bytes."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any, Final

from dramatiq.common import q_name

from .._protocol.event import BROADCAST_PREFIX
from ..errors import InvalidOption, InvalidRequest
from .json_fields import number_of, object_of
from .request import MAX_KEY, MAX_VALUE, AbortRequest

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["MAX_NAME", "RULE", "AbortRule", "is_rule_key", "rule_key", "tags_of"]

_PREFIX: Final = "rule:"

#: The first part of the key of a rule's event.
RULE: Final = BROADCAST_PREFIX + _PREFIX.encode()

#: A longer name of an actor or a queue, or a longer tag, is refused, in characters.
MAX_NAME: Final = 256


class AbortRule:
    """A request to abort every message that was enqueued until some moment and matches.

    Parameters:
      before: That moment, in milliseconds since 1970. It is compared with the time at which a message was made, on the
        clock of whoever made it.
      actor, queue, tag: What a message must be of; None: whatever it is.
      request: What is asked of its messages.
      id: By which it is taken back.
      ttl: For how many milliseconds it goes on; None where that is not known. It makes no two rules different.
    """

    # No dataclass: whoever imports this package would wait for it to be written.
    __slots__ = ("actor", "before", "id", "queue", "request", "tag", "ttl")

    def __init__(
        self,
        before: int,
        *,
        actor: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        request: AbortRequest = AbortRequest(),  # noqa: B008 - it is a tuple
        id: str | None = None,  # noqa: A002 - the field's name
        ttl: int | None = None,
    ) -> None:
        self.before: int = before
        self.actor: str | None = actor
        self.queue: str | None = queue
        self.tag: str | None = tag
        self.request: AbortRequest = request
        self.id: str = id or f"{_PREFIX}{uuid.uuid4().hex[:16]}"
        self.ttl: int | None = ttl

    def __eq__(self, other: object) -> bool:
        return self._compared() == other._compared() if isinstance(other, AbortRule) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._compared())

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"Rule({fields})"

    def _compared(self) -> tuple[object, ...]:
        return self.before, self.actor, self.queue, self.tag, self.request, self.id

    def __str__(self) -> str:
        names = (("actor", self.actor), ("queue", self.queue), ("tag", self.tag))
        return " and ".join(f"{name} {value}" for name, value in names if value is not None)

    def asdict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        fields = {name: getattr(self, name) for name in ("before", "actor", "queue", "tag", "id", "ttl")}
        request = self.request._asdict() | {"mode": self.request.mode.value}
        # By the names of the parameters of abort_all().
        names = {"mode": "mode", "grace": "abort_timeout", "repeat": "repeat_every", "reason": "reason", "by": "by"}
        return fields | {name: request[key] for key, name in names.items()}

    def matches(self, made: int | None, actor: str, queue: str, tags: Collection[str]) -> bool:
        """Say whether a message is among them; not one of which it is not known when it was made."""
        return (
            made is not None
            and made <= self.before
            and self.actor in {None, actor}
            and self.queue in {None, q_name(queue)}
            and (self.tag is None or self.tag in tags)
        )

    def encode(self) -> bytes:
        names = {"actor": self.actor, "queue": self.queue, "tag": self.tag}
        fields: dict[str, Any] = {name: value for name, value in names.items() if value is not None}
        fields |= {"before": self.before, "request": self.request.fields()}
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, key: bytes, value: bytes, ttl: int | None = None) -> AbortRule:
        """Read what may come from anybody.

        Raises:
          InvalidRequest: When it is none.
        """
        fields = object_of(value, MAX_VALUE)
        names = {name: fields.get(name) for name in ("actor", "queue", "tag")}
        before = number_of(fields.get("before"))
        if before is None:
            raise InvalidRequest(f"a rule for no time: {value[:80]!r}")
        # One that matches everything is never written, and what is not understood here must not become one.
        if not any(names.values()) or not all(name is None or isinstance(name, str) for name in names.values()):
            raise InvalidRequest(f"a rule for no actor, queue or tag: {value[:80]!r}")
        request = AbortRequest.from_fields(fields.get("request"))
        rule_id = key.removeprefix(BROADCAST_PREFIX).decode(errors="replace")
        return cls(before, **names, request=request, id=rule_id, ttl=ttl)


def is_rule_key(rule_id: str) -> bool:
    """Say whether this is a rule's id, and not a message's."""
    return rule_id.startswith(_PREFIX)


def rule_key(rule_id: str) -> bytes:
    """Return the key by which an event backend knows a rule.

    Raises:
      ValueError: When this is no rule's id.
    """
    key = BROADCAST_PREFIX + rule_id.encode(errors="replace")
    if not is_rule_key(rule_id) or len(key) > MAX_KEY:
        raise ValueError(f"no rule's id: {rule_id!r:.80}")
    return key


def tags_of(said: object) -> tuple[str, ...]:
    """Return the tags in an option ``abort_tags``, which is a list of them.

    Raises:
      InvalidOption: When it is something else.
    """
    if said is None:
        return ()
    if not isinstance(said, (list, tuple)) or not all(isinstance(tag, str) for tag in said):
        raise InvalidOption(f"abort_tags is a list of strings, not {said!r:.80}")
    return tuple(said)
