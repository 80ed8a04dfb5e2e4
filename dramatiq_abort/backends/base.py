"""The interface of event backends."""

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
    """Carries events from callers to worker processes.

    To write a backend, implement ``notify``, ``poll`` and ``wait_many``, which are all that a plain ``abort()`` needs.
    The other methods and attributes are optional, and each adds a feature. Their defaults are built on these three, or
    raise ``UnsupportedByBackend``.

    ::

        class MyBackend(EventBackend):
            def notify(self, key: bytes, ttl: int) -> None: ...
            def poll(self, key: bytes) -> bool: ...
            def wait_many(self, keys: Collection[bytes], timeout: int) -> bytes | None: ...

    Any method may be called from any thread, also while another thread waits. Keys are up to 512 bytes, values up to
    8,192 bytes, and times are in milliseconds. A method may raise any exception: workers then continue without aborts,
    and try again. Check a backend with the test suite in ``dramatiq_abort.contract``.
    """

    #: Whether ``wait_many`` receives every event, and looks into ``keys`` only when an event arrives. If so, it is
    #: called all the time, with a collection that changes while it waits; otherwise with a copy, and only while there
    #: are keys to wait for.
    receives_all: ClassVar[bool] = False

    #: Whether the backend carries broadcasts: events whose key begins with ``BROADCAST_PREFIX``. ``wait_many`` returns
    #: them whatever its keys are, and ``broadcasts`` returns the live ones.
    supports_broadcast: ClassVar[bool] = False

    #: The time, in seconds on the clock of ``time.monotonic()``, until which it is certain that no event is live: a
    #: message that starts before it does not call ``events_for``. It must be in the past at the latest when
    #: ``wait_many`` returns an event, and when ``signal`` or ``notify`` of this object returns.
    no_events_before: float = -math.inf

    #: The store for the replies of workers to callers; None if the backend has none.
    reply_store: ReplyStore | None = None

    @abc.abstractmethod
    def notify(self, key: bytes, ttl: int) -> None:
        """Signal ``key`` for ``ttl`` milliseconds.

        Every wait in progress receives the signal, and so does every later wait or query within that time.
        """

    @abc.abstractmethod
    def poll(self, key: bytes) -> bool:
        """Return whether ``key`` is signaled, without waiting.

        If the class does not override ``read``, this may consume the signal: the answer is relied on, and not asked for
        again.
        """

    @abc.abstractmethod
    def wait_many(self, keys: Collection[bytes], timeout: int) -> bytes | None:
        """Wait for the next signaled key among ``keys``.

        Each signal is returned once per backend object, including one that was made before the call and is still live.
        When a signal that was returned is revoked, its key is returned once more, and ``read`` then returns None. If
        the class does not override ``read``, this may consume the signal.

        Parameters:
          keys: The keys to wait for. The collection may grow and shrink during the wait.
          timeout: How many milliseconds to wait at most.

        Returns:
          bytes | None: The key, or None after the timeout.
        """

    def receive(self, keys: Collection[bytes], timeout: int) -> tuple[bytes, Event | None] | None:
        """Wait like ``wait_many``, and return the event with its key. Workers call this method.

        The default calls ``wait_many``, then ``read`` for the key it got. If the class does not override ``read``, the
        backend carries only events without a value, which the key fully describes.

        Returns:
          tuple[bytes, Event | None] | None: The key with its event, or with None if an event returned before was
          revoked; None after the timeout.
        """
        unread: deque[bytes] = vars(self).setdefault("_unread", deque())  # subclasses need not call __init__()
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
            unread.append(key)  # wait_many() does not return it again
            raise

    def wake(self) -> None:
        """Make a ``receive`` in progress return None soon, because its worker stops, for example.

        The default does nothing: the wait lasts until its timeout.
        """

    def signal(self, events: Iterable[Event]) -> None:
        """Signal one or more events.

        The default calls ``notify`` for each event, and supports only events without a value.

        Raises:
          UnsupportedByBackend: If an event has a value and this backend carries none. No event has been signaled.
        """
        events = list(events)
        if any(event.value for event in events):
            raise UnsupportedByBackend(
                f"{type(self).__name__} carries no values, so it supports only a plain abort(), without mode, "
                "abort_timeout, repeat_every, reason and by. Implement its signal() and read() to support these."
            )
        for event in events:
            if event.ttl is None:
                raise ValueError(f"an event must have a time to live to be signaled: {event!r}")
            self.notify(event.key, event.ttl)

    def read(self, key: bytes) -> Event | None:
        """Return the live event of ``key`` with its remaining time to live, or None if the key is not signaled.

        A class that overrides this promises to keep signals: neither ``read`` nor ``poll`` nor ``wait_many`` consumes
        them.

        Raises:
          UnsupportedByBackend: If the class does not override it: ``poll`` may consume the signal.
        """
        raise UnsupportedByBackend(
            f"{type(self).__name__} cannot be queried for a message that is not running in this process, because the "
            "query might consume the signal. Implement its read() to support this."
        )

    def broadcasts(self) -> Mapping[bytes, Event]:
        """Return the live broadcasts by key, without waiting. The default returns none."""
        return {}

    def events_for(self, key: bytes) -> Collection[Event]:
        """Return the live events for the message with this key, without waiting: its own, and all broadcasts.

        It is called for each message that starts at or after ``no_events_before``.
        """
        event: Event | None = None
        if keeps_signals(self):
            event = self.read(key)
        elif self.poll(key):
            event = Event(key)
        for_all = self.broadcasts().values()
        return for_all if event is None else [event, *for_all]

    def age(self, key: bytes) -> float | None:
        """Return for how many milliseconds, at least, ``key`` has been signaled; None if unknown.

        The default returns None: an ``AbortMode.CANCEL`` that a worker receives after the message has started is then
        ignored, even if it was requested before.
        """
        return None

    def revoke(self, key: bytes) -> bool:
        """Delete the event of ``key``, and return whether it was live.

        Raises:
          UnsupportedByBackend: If the class does not override it.
        """
        raise UnsupportedByBackend(
            f"{type(self).__name__} cannot revoke a request. Implement its revoke() to support this."
        )


def keeps_signals(backend: EventBackend) -> bool:
    """Return whether a backend promises to keep signals when it is queried: its class overrides ``read``."""
    return type(backend).read is not EventBackend.read


def reply_store_of(backend: EventBackend) -> ReplyStore:
    """Return the reply store of an event backend.

    Raises:
      UnsupportedByBackend: If the backend has none.
    """
    if backend.reply_store is None:
        raise UnsupportedByBackend(
            f"{type(backend).__name__} has no reply store: workers can report neither outcomes nor running messages."
        )
    return backend.reply_store
