"""What an event backend must do, and what it may do besides."""

from __future__ import annotations

import abc
import math
from collections import deque
from typing import TYPE_CHECKING, ClassVar

from .._protocol.event import Event
from ..errors import UnsupportedByBackend

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from .replies import ReplyStore

__all__ = ["EventBackend", "keeps_signals", "reply_store_of"]


class EventBackend(abc.ABC):
    """Carries events from those who signal them to every worker process.

    A subclass must have ``notify``, ``poll`` and ``wait_many``: that is all that a plain ``abort()`` needs. The other
    methods have defaults that are made of these three, or say that they cannot be. All may be called from any thread.
    ``dramatiq_abort.contract`` has the tests that it must pass.
    """

    #: Whether ``wait_many`` hears every event there is, and looks into ``keys`` only when one arrives. If so, it is
    #: called all the time with the worker's live collection; if not, with a copy, and only while it has keys.
    receives_all: ClassVar[bool] = False

    #: Whether it carries events for all workers, too: those whose key begins with ``FOR_ALL``. ``wait_many`` hands them
    #: out whatever its keys are, and ``announced`` lists those that live.
    supports_broadcast: ClassVar[bool] = False

    #: Until when, in seconds on the clock of ``time.monotonic()``, it is certain that no event lives: a message that
    #: starts before that asks for none. An event moves this into the past, when ``wait_many`` hands it out, or sooner;
    #: and what this object signals, when that is done.
    no_events_before: float = -math.inf

    #: Where workers leave word for those who have asked; None: this backend has no such place.
    reply_store: ReplyStore | None = None

    @abc.abstractmethod
    def notify(self, key: bytes, ttl: int) -> None:
        """Signal ``key`` to all who wait for it now or ask for it within the next ``ttl`` milliseconds."""

    @abc.abstractmethod
    def poll(self, key: bytes) -> bool:
        """Say whether ``key`` is signaled, without waiting.

        Unless the class has a ``read`` of its own, this may consume the signal: it is asked once, and believed.
        """

    @abc.abstractmethod
    def wait_many(self, keys: Collection[bytes], timeout: int) -> bytes | None:
        """Wait for the next signaled key of ``keys``.

        Each signal is handed out once per backend object. One that was made before the call, and that still lives,
        counts. When one that has been handed out is taken back, its key is handed out again; ``read`` then returns
        None. Unless the class has a ``read`` of its own, this may consume the signal.

        Parameters:
          keys: Those that are waited for. May grow and shrink meanwhile.
          timeout: For how many milliseconds to wait at the most.

        Returns:
          bytes | None: The key, or None when the time is over.
        """

    def receive(self, keys: Collection[bytes], timeout: int) -> tuple[bytes, Event | None] | None:
        """Wait as ``wait_many`` does, and return the event with its key; this is what a worker calls.

        The default asks ``read`` for the event that ``wait_many`` has handed out. Without a ``read`` of its own, the
        backend carries plain events only, so the key is all there is to know.

        Returns:
          tuple[bytes, Event | None] | None: The key with its event, or with None when what was handed out before has
          been taken back; or None when the time is over.
        """
        unread: deque[bytes] = vars(self).setdefault("_unread", deque())  # a subclass need not call __init__()
        try:
            key: bytes | None = unread.popleft()
        except IndexError:
            key = self.wait_many(keys, timeout)
        if key is None:
            return None
        if not keeps_signals(self):
            return key, Event(key)
        try:
            return key, self.read(key)
        except BaseException:
            unread.append(key)  # it is not handed out a second time
            raise

    def wake(self) -> None:
        """Let a ``receive`` that is under way return None soon, as when its worker stops.

        Without this it returns when its time is over.
        """

    def signal(self, events: Iterable[Event]) -> None:
        """Signal many events.

        Raises:
          UnsupportedByBackend: When an event has a value and this backend carries none; then none is signaled.
        """
        events = list(events)
        if any(event.value for event in events):
            raise UnsupportedByBackend(
                f"{type(self).__name__} carries no values, so it cannot do more than a plain abort(): no mode but "
                "ABORT, no abort_timeout and no repeat_every. Implement its signal() and read() for that."
            )
        for event in events:
            if event.ttl is None:
                raise ValueError(f"an event needs a time to live to be signaled: {event!r}")
            self.notify(event.key, event.ttl)

    def read(self, key: bytes) -> Event | None:
        """Return the signaled event of ``key`` with the time it has left, or None if there is none.

        A class that has this keeps its signals: neither this nor ``poll`` nor ``wait_many`` consumes them.

        Raises:
          UnsupportedByBackend: When this backend has only ``poll``, which may consume the signal.
        """
        raise UnsupportedByBackend(
            f"{type(self).__name__} cannot tell what is signaled without perhaps consuming it, so it knows nothing of "
            "a message that is not running here. Implement its read() for that."
        )

    def broadcasts(self) -> Mapping[bytes, Event]:
        """Return the live events for all workers, by key, without waiting."""
        return {}

    def events_for(self, key: bytes) -> Collection[Event]:
        """Return the live events of the message with this key, without waiting: its own, and those for all workers.

        Each message that starts asks for them, unless it is quiet: who changes what this returns sets ``quiet_until``.
        """
        event: Event | None = None
        if keeps_signals(self):
            event = self.read(key)
        elif self.poll(key):
            event = Event(key)
        for_all = self.broadcasts().values()
        return for_all if event is None else [event, *for_all]

    def age(self, key: bytes) -> float | None:
        """Return for how many milliseconds, at the least, ``key`` has been signaled; None where that is not known.

        Without this, an ``AbortMode.CANCEL`` that a worker hears of only after the message's start is ignored.
        """
        return None

    def revoke(self, key: bytes) -> bool:
        """Take the signal of ``key`` back, and say whether there was one.

        Raises:
          UnsupportedByBackend: When this backend cannot.
        """
        raise UnsupportedByBackend(
            f"{type(self).__name__} cannot take a request back. Implement its revoke() for that."
        )


def keeps_signals(backend: EventBackend) -> bool:
    """Say whether asking for a signal leaves it where it is, which a backend with only ``poll`` does not promise."""
    return type(backend).read is not EventBackend.read


def reply_store_of(backend: EventBackend) -> ReplyStore:
    """Return the reply store of an event backend.

    Raises:
      UnsupportedByBackend: If it has none.
    """
    if backend.reply_store is None:
        raise UnsupportedByBackend(
            f"{type(backend).__name__} has no reply store: workers can report neither outcomes nor running messages."
        )
    return backend.reply_store
