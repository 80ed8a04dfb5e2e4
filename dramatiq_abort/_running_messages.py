"""The messages that this worker process is running, and the last that it has completed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dramatiq.common import q_name

from ._running import since_1970
from ._untrusted import number_of
from .outcome import Outcome, OutcomeState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._running import Running
    from .request import AbortRequest

__all__ = ["RunningMessages"]

#: Looked up once: each message asks for it.
_COMPLETED: Final = OutcomeState.COMPLETED

#: How many messages that have completed are kept in mind.
_MOST_COMPLETED: Final = 1000


class Completed(NamedTuple):
    """What is kept in mind of a message that has completed."""

    key: bytes
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

    # Every message comes and goes here, in many threads, and none waits for a lock: each operation on a dictionary is
    # one step, and nobody else removes the key of a message.

    def __init__(self) -> None:
        self._by_key: dict[bytes, Running] = {}
        #: The last ones that have completed, as ``Completed`` has it, which would take longer to make for each.
        self._completed: deque[tuple[bytes, str, str, str, Any, float, float]] = deque(maxlen=_MOST_COMPLETED)
        #: Those of the same key as another, which the broker has delivered again.
        self._again: dict[Running, None] = {}

    def add(self, running: Running) -> None:
        if self._by_key.setdefault(running.key, running) is not running:
            self._again[running] = None

    def discard(self, running: Running) -> None:
        running.ended = ended = time.monotonic()
        key = running.key
        if running.state is _COMPLETED:  # what has failed may be tried again
            message = running.message
            queue, made = message.queue_name, message.message_timestamp
            self._completed.append((key, message.message_id, message.actor_name, queue, made, running.started, ended))
        if self._by_key.get(key) is running:
            del self._by_key[key]
        else:
            self._again.pop(running, None)

    def with_key(self, key: bytes) -> tuple[Running, ...]:
        """Return those that are running."""
        first = self._by_key.get(key)
        again = tuple(running for running in list(self._again) if running.key == key)
        return again if first is None else (first, *again)

    def completed(self, key: bytes) -> Completed | None:
        for about in reversed([*self._completed]):
            if about[0] == key:
                return Completed(*about)
        return None

    def all(self) -> list[Running]:
        """Return those that are running."""
        return [*self._by_key.values(), *list(self._again)]

    def __contains__(self, key: object) -> bool:
        return key in self._by_key or any(each == key for each in self)

    def __iter__(self) -> Iterator[bytes]:
        again = (running.key for running in list(self._again))
        return iter([*self._by_key, *again, *[about[0] for about in [*self._completed]]])

    def __len__(self) -> int:
        return len(self._by_key) + len(self._again) + len(self._completed)
