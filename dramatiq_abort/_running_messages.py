"""The messages that this worker process is running, and the last that it has completed."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple

from dramatiq.common import q_name

from ._running import since_1970
from ._untrusted import number_of
from .outcome import Outcome, OutcomeState
from .request import PREFIX, message_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._passage import Passage
    from ._running import Running
    from .request import AbortRequest

__all__ = ["RunningMessages"]


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


class RunningMessages(Collection[bytes]):
    """The table of them, and a collection of their keys that may be read while it changes."""

    # Every message comes and goes in the passage, in many threads, and none waits for a lock: each operation on a
    # dictionary is one step, and nobody else removes a message.

    def __init__(self, *passages: Passage) -> None:
        self._passages = passages

    def add(self, passage: Passage) -> None:
        """Have the messages of another broker in it, too."""
        self._passages = (*self._passages, passage)

    def remove(self, passage: Passage) -> None:
        self._passages = tuple(each for each in self._passages if each is not passage)

    def with_key(self, key: bytes) -> tuple[Running, ...]:
        """Return those that are running."""
        message_id = message_id_of(key)
        if message_id is None:
            return ()
        found: list[Running] = []
        for passage in self._passages:
            first = passage.by_id.get(message_id)
            if first is not None:
                found.append(first)
            found += [running for running in list(passage.again) if running.message_id == message_id]
        return tuple(found)

    def others(self, running: Running) -> list[Running]:
        """Return those that are running with the id of this one: the broker has delivered the message again."""
        return [other for other in self.with_key(running.key) if other is not running]

    def completed(self, key: bytes) -> Completed | None:
        message_id = message_id_of(key)
        if message_id is not None:
            for passage in self._passages:
                about = passage.completed(message_id)
                if about is not None:
                    return Completed(*about)
        return None

    def all(self) -> list[Running]:
        """Return those that are running."""
        return [running for each in self._passages for running in (*each.by_id.values(), *list(each.again))]

    def __contains__(self, key: object) -> bool:
        message_id = message_id_of(key) if isinstance(key, bytes) else None
        if message_id is None:
            return False
        # In this order: the last look takes longest, since there are a thousand.
        for passage in self._passages:
            if message_id in passage.by_id or any(again.message_id == message_id for again in list(passage.again)):
                return True
        return any(passage.completed(message_id) is not None for passage in self._passages)

    def __iter__(self) -> Iterator[bytes]:
        # Who looks for one of many finds it among the first, and waits for no key behind it.
        for passage in self._passages:
            for message_id in list(passage.by_id):
                yield PREFIX + message_id.encode()
            for running in list(passage.again):
                yield running.key
        for passage in self._passages:
            for message_id in passage.completed_ids():
                yield PREFIX + message_id.encode()

    def __len__(self) -> int:
        return len(self.all()) + sum(len(passage.completed_ids()) for passage in self._passages)
