"""The table of the messages that a worker process is running, and of the last that it has completed."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple

from dramatiq.common import q_name

from .._protocol.json_fields import number_of
from .._protocol.outcome import Outcome, OutcomeState
from .._protocol.request import PREFIX, message_id_of
from .execution import since_1970

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._protocol.request import AbortRequest
    from .execution import Execution
    from .hooks import MessageHooks

__all__ = ["ExecutionTable"]


class Completed(NamedTuple):
    """A completed message as the table remembers it."""

    message_id: str
    actor_name: str
    queue_name: str
    enqueued: Any
    started: float
    ended: float

    def outcome(self, worker: str, request: AbortRequest) -> Outcome:
        """Return the outcome for an abort request that has just arrived."""
        started, requested, ended = since_1970(self.started, time.monotonic(), self.ended)
        return Outcome(
            self.message_id,
            OutcomeState.COMPLETED,
            actor=self.actor_name,
            queue=q_name(self.queue_name),
            worker=worker,
            enqueued=number_of(self.enqueued),
            started=started,
            requested=requested,
            ended=ended,
            reason=request.reason,
            by=request.by,
        )


class ExecutionTable(Collection[bytes]):
    """The messages of one or more brokers, and a collection of their keys that may be read while it changes."""

    # The hooks add and remove messages in many threads, without a lock: each operation on a dictionary is one step, and
    # only the hooks of a message remove it.

    def __init__(self, *hooks: MessageHooks) -> None:
        self._hooks = hooks

    def add(self, hooks: MessageHooks) -> None:
        """Include the messages of another broker."""
        self._hooks = (*self._hooks, hooks)

    def remove(self, hooks: MessageHooks) -> None:
        self._hooks = tuple(each for each in self._hooks if each is not hooks)

    def with_key(self, key: bytes) -> tuple[Execution, ...]:
        """Return the running executions of the message with this key: several if the broker has redelivered it."""
        message_id = message_id_of(key)
        if message_id is None:
            return ()
        found: list[Execution] = []
        for hooks in self._hooks:
            first = hooks.by_id.get(message_id)
            if first is not None:
                found.append(first)
            found += [execution for execution in list(hooks.redelivered) if execution.message_id == message_id]
        return tuple(found)

    def others(self, execution: Execution) -> list[Execution]:
        """Return the other running executions of the same message, which the broker has redelivered."""
        return [other for other in self.with_key(execution.key) if other is not execution]

    def completed(self, key: bytes) -> Completed | None:
        """Return a message that has completed, if it is one of the last."""
        message_id = message_id_of(key)
        if message_id is not None:
            for hooks in self._hooks:
                about = hooks.completed(message_id)
                if about is not None:
                    return Completed(*about)
        return None

    def all(self) -> list[Execution]:
        """Return the running executions."""
        return [execution for each in self._hooks for execution in (*each.by_id.values(), *list(each.redelivered))]

    def __contains__(self, key: object) -> bool:
        message_id = message_id_of(key) if isinstance(key, bytes) else None
        if message_id is None:
            return False
        # The completed messages last: there are up to a thousand, so that search takes longest.
        for hooks in self._hooks:
            if message_id in hooks.by_id or any(
                redelivered.message_id == message_id for redelivered in list(hooks.redelivered)
            ):
                return True
        return any(hooks.completed(message_id) is not None for hooks in self._hooks)

    def __iter__(self) -> Iterator[bytes]:
        # Running ids come first, so most lookups stop there.
        for hooks in self._hooks:
            for message_id in list(hooks.by_id):
                yield PREFIX + message_id.encode()
            for execution in list(hooks.redelivered):
                yield execution.key
        for hooks in self._hooks:
            for message_id in hooks.completed_ids():
                yield PREFIX + message_id.encode()

    def __len__(self) -> int:
        return len(self.all()) + sum(len(hooks.completed_ids()) for hooks in self._hooks)
