"""Broadcasts reach all workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from .._protocol.event import BROADCAST_PREFIX, Event
from ._fixtures import Fixtures, overrides
from ._patience import HOUR, LONG, PATIENCE, SHORT, in_thread, next_keys, wait_until

if TYPE_CHECKING:
    from ..backends.base import EventBackend
    from ._fixtures import MakeBackend

__all__ = ["Broadcasts"]

#: Keys of broadcasts, and keys that only look similar.
ONE, OTHER, LONGEST = BROADCAST_PREFIX + b"one", BROADCAST_PREFIX + b"other", BROADCAST_PREFIX + bytes(range(256))
OTHERS: Final = [BROADCAST_PREFIX[:-1], b"x" + BROADCAST_PREFIX, BROADCAST_PREFIX.upper(), b"one"]


class Broadcasts(Fixtures):
    """``broadcasts``, and ``wait_many`` for keys that begin with ``BROADCAST_PREFIX``."""

    @pytest.mark.usefixtures("needs_broadcast")
    def test_a_broadcast_is_returned_to_all(self, make_backend: MakeBackend) -> None:
        """Whatever keys they wait for, once each, also if the backend was created after the broadcast."""
        before, caller = make_backend(), make_backend()
        waiting = in_thread(before.wait_many, [b"x"], LONG)

        caller.signal([Event(ONE, b"one", HOUR)])

        assert waiting.result(PATIENCE) == ONE
        later = make_backend()
        if later is not before:
            assert later.wait_many([b"x"], LONG) == ONE
        assert [before.wait_many([b"x"], 1), later.wait_many([b"x"], 1)] == [None, None]

    @pytest.mark.usefixtures("needs_broadcast")
    def test_broadcasts_are_listed(self, make_backend: MakeBackend) -> None:
        """And no other events, with their values and remaining times to live."""
        caller = make_backend()
        caller.signal([Event(key, b"value", HOUR) for key in (ONE, *OTHERS, LONGEST)])

        broadcasts = make_backend().broadcasts()

        assert set(broadcasts) == {ONE, LONGEST}
        for key, event in broadcasts.items():
            assert (event.key, event.value) == (key, b"value")
            assert event.ttl is not None
            assert HOUR / 2 < event.ttl <= HOUR

    @pytest.mark.usefixtures("needs_broadcast")
    def test_a_returned_broadcast_can_be_read(self, make_backend: MakeBackend) -> None:
        """And it is listed, as soon as it is returned."""
        backend = make_backend()
        assert backend.broadcasts() == {}
        assert backend.wait_many([b"x"], 1) is None
        make_backend().signal([Event(ONE, b"one", HOUR), Event(OTHER, b"other", HOUR)])

        assert sorted(next_keys(backend, [b"x"], 2)) == [ONE, OTHER]
        assert {key: event.value for key, event in backend.broadcasts().items()} == {ONE: b"one", OTHER: b"other"}
        assert [event and event.value for event in map(backend.read, (ONE, OTHER))] == [b"one", b"other"]

    @pytest.mark.usefixtures("needs_broadcast")
    def test_broadcasts_are_for_each_message(self, make_backend: MakeBackend) -> None:
        """After its own event, whether it has one or not."""
        follower, other = make_backend(), make_backend()
        follower.wait_many([b"x"], 1)
        make_backend().signal([Event(ONE, b"one", HOUR), Event(b"a", b"own", HOUR)])
        assert sorted(next_keys(follower, [b"a"], 2)) == [b"a", ONE]

        for backend in (follower, other):
            assert [(event.key, event.value) for event in backend.events_for(b"a")] == [(b"a", b"own"), (ONE, b"one")]
            assert [(event.key, event.value) for event in backend.events_for(b"b")] == [(ONE, b"one")]

    @pytest.mark.usefixtures("needs_broadcast")
    def test_a_broadcast_expires(self, make_backend: MakeBackend) -> None:
        """With its own time to live, also for backends that have returned it."""
        backend = make_backend()
        make_backend().signal([Event(ONE, b"one", SHORT), Event(OTHER, b"other", HOUR)])
        backend.wait_many([b"x"], SHORT)

        wait_until(lambda: ONE not in backend.broadcasts(), "the end of the time to live")

        assert backend.read(ONE) is None
        assert list(backend.broadcasts()) == list(make_backend().broadcasts()) == [OTHER]

    @pytest.mark.usefixtures("needs_broadcast", "needs_revoke")
    def test_a_broadcast_can_be_revoked(self, make_backend: MakeBackend) -> None:
        """All receive the revocation."""
        backend = make_backend()
        make_backend().signal([Event(ONE, b"one", HOUR), Event(OTHER, b"other", HOUR)])
        assert sorted(next_keys(backend, [b"x"], 2)) == [ONE, OTHER]

        assert make_backend().revoke(ONE)

        assert backend.wait_many([b"x"], LONG) == ONE
        assert backend.read(ONE) is None
        assert list(backend.broadcasts()) == list(make_backend().broadcasts()) == [OTHER]

    def test_other_events_are_not_broadcast(self, backend: EventBackend) -> None:
        """They are neither listed, nor returned to waits for other keys."""
        for key in OTHERS:
            backend.notify(key, HOUR)

        assert backend.broadcasts() == {}
        assert backend.wait_many([b"x"], 20) is None

    def test_a_class_with_broadcasts_declares_it(self, backend: EventBackend) -> None:
        """Otherwise, ``abort_all()`` would be refused."""
        assert backend.supports_broadcast == overrides(backend, "broadcasts")
