"""Rules, which are bulk aborts, and their encoding."""

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

#: Prefix of the keys of rules.
RULE: Final = BROADCAST_PREFIX + _PREFIX.encode()

#: Maximum length of the name of an actor or a queue, and of a tag, in characters.
MAX_NAME: Final = 256


class AbortRule:
    """A bulk abort: a request to abort every matching message that was enqueued until some moment.

    Parameters:
      before: That moment, in milliseconds since 1970. It is compared with the creation time of a message, which is on
        the clock of the program that created it.
      actor, queue, tag: What a message must match; None matches any.
      request: The request that applies to the matching messages.
      id: The id of the rule, for ``restore()``.
      ttl: How many milliseconds the rule remains in effect; None if unknown. It is ignored when rules are compared.
    """

    # Not a dataclass: generating its methods would slow down the import of this package.
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
        return f"AbortRule({fields})"

    def _compared(self) -> tuple[object, ...]:
        return self.before, self.actor, self.queue, self.tag, self.request, self.id

    def __str__(self) -> str:
        names = (("actor", self.actor), ("queue", self.queue), ("tag", self.tag))
        return " and ".join(f"{name} {value}" for name, value in names if value is not None)

    def asdict(self) -> dict[str, Any]:
        """Return the fields as a dict that can be serialized as JSON."""
        fields = {name: getattr(self, name) for name in ("before", "actor", "queue", "tag", "id", "ttl")}
        request = self.request._asdict() | {"mode": self.request.mode.value}
        # Named like the parameters of abort_all().
        names = {"mode": "mode", "grace": "abort_timeout", "repeat": "repeat_every", "reason": "reason", "by": "by"}
        return fields | {name: request[key] for key, name in names.items()}

    def matches(self, made: int | None, actor: str, queue: str, tags: Collection[str]) -> bool:
        """Return whether the rule applies to a message. A message whose creation time is unknown never matches."""
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
        """Decode a rule from untrusted bytes.

        Raises:
          InvalidRequest: If they are not a valid rule.
        """
        fields = object_of(value, MAX_VALUE)
        names = {name: fields.get(name) for name in ("actor", "queue", "tag")}
        before = number_of(fields.get("before"))
        if before is None:
            raise InvalidRequest(f"a rule without a valid time: {value[:80]!r}")
        # A rule that matches everything is never written. One with unknown criteria must not be taken for such a rule.
        if not any(names.values()) or not all(name is None or isinstance(name, str) for name in names.values()):
            raise InvalidRequest(f"a rule without a valid actor, queue or tag: {value[:80]!r}")
        request = AbortRequest.from_fields(fields.get("request"))
        rule_id = key.removeprefix(BROADCAST_PREFIX).decode(errors="replace")
        return cls(before, **names, request=request, id=rule_id, ttl=ttl)


def is_rule_key(rule_id: str) -> bool:
    """Return whether an id is that of a rule, rather than of a message."""
    return rule_id.startswith(_PREFIX)


def rule_key(rule_id: str) -> bytes:
    """Return the key of the event of a rule.

    Raises:
      ValueError: If this is not the id of a rule.
    """
    key = BROADCAST_PREFIX + rule_id.encode(errors="replace")
    if not is_rule_key(rule_id) or len(key) > MAX_KEY:
        raise ValueError(f"not the id of a rule: {rule_id!r:.80}")
    return key


def tags_of(option: object) -> tuple[str, ...]:
    """Return the tags in the value of the option ``abort_tags``.

    Raises:
      InvalidOption: If it is not a list or tuple of str.
    """
    if option is None:
        return ()
    if not isinstance(option, (list, tuple)) or not all(isinstance(tag, str) for tag in option):
        raise InvalidOption(f"abort_tags must be a list of str, not {option!r:.80}")
    return tuple(option)
