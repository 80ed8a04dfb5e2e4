"""What can be aborted: one message or many, and when each of them is to start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from dramatiq import Message, group, pipeline
from dramatiq.broker import MessageProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Target", "Targets", "targets_of"]


class Group(Protocol):
    """What is known of the type of dramatiq's ``group``, which has no annotations."""

    children: list[Any]


#: A message id, a message, a group, a pipeline, or an iterable of those.
Targets: TypeAlias = "str | Message[Any] | MessageProxy | Group | pipeline | Iterable[Targets]"


class Target(NamedTuple):
    """A message to be aborted.

    Parameters:
      message_id: Its id.
      eta: When it is to start, in milliseconds since 1970, on the clock of whoever has sent it; None: at once, or it is
        not known.
    """

    message_id: str
    eta: int | None = None


def targets_of(what: Targets) -> Iterator[Target]:
    """Yield the messages in this, in their order.

    Raises:
      TypeError: When it is nothing that can be aborted.
    """
    if isinstance(what, str):
        yield Target(what)
    elif isinstance(what, (Message, MessageProxy)):  # before Iterable: it was a tuple once
        yield Target(what.message_id, what.options.get("eta"))
    elif isinstance(what, group):
        yield from targets_of(what.children)
    elif isinstance(what, pipeline):
        yield from targets_of(what.messages)
    elif isinstance(what, Iterable) and not isinstance(what, (bytes, bytearray, Mapping)):
        yield from chain.from_iterable(map(targets_of, what))
    else:
        raise TypeError(f"a message id, a message, a group, a pipeline or an iterable of those, not {what!r:.80}")
