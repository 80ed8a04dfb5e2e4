"""The messages that this worker process is running, and the last that it has completed."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple

from dramatiq.common import q_name

from .._protocol.outcome import Outcome, OutcomeState
from .._protocol.request import PREFIX, message_id_of
from .._protocol.validation import number_of
from .execution import since_1970

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._protocol.request import AbortRequest
    from .execution import Execution
    from .hooks import MessageHooks

__all__ = ["ExecutionTable"]


class Completed(NamedTuple):
    """What is kept in mind of a message that has completed."""

    message_id: str
    actor_name: str
    queue_name: str
    enqueued: Any
    started: float
    ended: float

    def outcome(self, worker: str, request: AbortRequest) -> Outcome:
        """Tell somebody who asks to abort it now."""
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
    """The table of them, and a collection of their keys that may be read while it changes."""

    # Every message comes and goes in the passage, in many threads, and none waits for a lock: each operation on a
    # dictionary is one step, and nobody else removes a message.

    def __init__(self, *passages: MessageHooks) -> None:
        self._hooks = passages

    def add(self, hooks: MessageHooks) -> None:
        """Have the messages of another broker in it, too."""
        self._hooks = (*self._hooks, hooks)

    def remove(self, hooks: MessageHooks) -> None:
        self._hooks = tuple(each for each in self._hooks if each is not hooks)

    def with_key(self, key: bytes) -> tuple[Execution, ...]:
        """Return those that are running."""
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
        """Return those that are running with the id of this one: the broker has delivered the message again."""
        return [other for other in self.with_key(execution.key) if other is not execution]

    def completed(self, key: bytes) -> Completed | None:
        message_id = message_id_of(key)
        if message_id is not None:
            for hooks in self._hooks:
                about = hooks.completed(message_id)
                if about is not None:
                    return Completed(*about)
        return None

    def all(self) -> list[Execution]:
        """Return those that are running."""
        return [execution for each in self._hooks for execution in (*each.by_id.values(), *list(each.redelivered))]

    def __contains__(self, key: object) -> bool:
        message_id = message_id_of(key) if isinstance(key, bytes) else None
        if message_id is None:
            return False
        # In this order: the last look takes longest, since there are a thousand.
        for hooks in self._hooks:
            if message_id in hooks.by_id or any(
                redelivered.message_id == message_id for redelivered in list(hooks.redelivered)
            ):
                return True
        return any(hooks.completed(message_id) is not None for hooks in self._hooks)

    def __iter__(self) -> Iterator[bytes]:
        # Who looks for one of many finds it among the first, and waits for no key behind it.
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
