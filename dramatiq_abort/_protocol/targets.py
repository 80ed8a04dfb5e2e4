"""The targets of an abort: one message or many, and when each is to start."""

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
    """The part used here of dramatiq's ``group``, which has no annotations."""

    children: list[Any]


#: A message id, a message, a group, a pipeline, or an iterable of those.
Targets: TypeAlias = "str | Message[Any] | MessageProxy | Group | pipeline | Iterable[Targets]"


class Target(NamedTuple):
    """A message to be aborted.

    Parameters:
      message_id: The id of the message.
      eta: When a delayed message is to start, in milliseconds since 1970, on the clock of the program that sent it;
        None if it is not delayed, or that is unknown.
    """

    message_id: str
    eta: int | None = None


def targets_of(targets: Targets) -> Iterator[Target]:
    """Yield the messages in ``targets``, in their order.

    Raises:
      TypeError: If ``targets`` contains anything that cannot be aborted.
    """
    if isinstance(targets, str):
        yield Target(targets)
    elif isinstance(targets, (Message, MessageProxy)):  # before Iterable: Message is a tuple in older versions
        yield Target(targets.message_id, targets.options.get("eta"))
    elif isinstance(targets, group):
        yield from targets_of(targets.children)
    elif isinstance(targets, pipeline):
        yield from targets_of(targets.messages)
    elif isinstance(targets, Iterable) and not isinstance(targets, (bytes, bytearray, Mapping)):
        yield from chain.from_iterable(map(targets_of, targets))
    else:
        raise TypeError(
            f"expected a message id, a message, a group, a pipeline or an iterable of these, not {targets!r:.80}"
        )
