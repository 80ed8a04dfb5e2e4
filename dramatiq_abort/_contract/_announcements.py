"""What is for all workers reaches all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from .._protocol.event import BROADCAST_PREFIX, Event
from ._fixtures import Fixtures, overrides
from ._patience import HOUR, LONG, PATIENCE, SHORT, hear, in_thread, wait_until

if TYPE_CHECKING:
    from ..backends.base import EventBackend
    from ._fixtures import MakeBackend

__all__ = ["Announcements"]

#: How the keys of what is for all begin, and keys that only look like it.
ONE, OTHER, LONGEST = BROADCAST_PREFIX + b"one", BROADCAST_PREFIX + b"other", BROADCAST_PREFIX + bytes(range(256))
OTHERS: Final = [BROADCAST_PREFIX[:-1], b"x" + BROADCAST_PREFIX, BROADCAST_PREFIX.upper(), b"one"]


class Announcements(Fixtures):
    """``announced``, and what ``wait_many`` does with keys that begin with ``FOR_ALL``."""

    @pytest.mark.usefixtures("needs_tells_all")
    def test_all_hear_of_what_is_for_all(self, make_backend: MakeBackend) -> None:
        """Whatever they wait for; each once, also what was there before they were."""
        before, caller = make_backend(), make_backend()
        waiting = in_thread(before.wait_many, [b"x"], LONG)

        caller.signal([Event(ONE, b"one", HOUR)])

        assert waiting.result(PATIENCE) == ONE
        later = make_backend()
        if later is not before:
            assert later.wait_many([b"x"], LONG) == ONE
        assert [before.wait_many([b"x"], 1), later.wait_many([b"x"], 1)] == [None, None]

    @pytest.mark.usefixtures("needs_tells_all")
    def test_what_is_for_all_is_listed(self, make_backend: MakeBackend) -> None:
        """And nothing else, with what it says and the time it has left."""
        caller = make_backend()
        caller.signal([Event(key, b"value", HOUR) for key in (ONE, *OTHERS, LONGEST)])

        broadcasts = make_backend().broadcasts()

        assert set(broadcasts) == {ONE, LONGEST}
        for key, event in broadcasts.items():
            assert (event.key, event.value) == (key, b"value")
            assert event.ttl is not None
            assert HOUR / 2 < event.ttl <= HOUR

    @pytest.mark.usefixtures("needs_tells_all")
    def test_who_hears_of_it_finds_it(self, make_backend: MakeBackend) -> None:
        """When it is handed out it is listed, and can be read."""
        backend = make_backend()
        assert backend.broadcasts() == {}
        assert backend.wait_many([b"x"], 1) is None
        make_backend().signal([Event(ONE, b"one", HOUR), Event(OTHER, b"other", HOUR)])

        assert sorted(hear(backend, [b"x"], 2)) == [ONE, OTHER]
        assert {key: event.value for key, event in backend.broadcasts().items()} == {ONE: b"one", OTHER: b"other"}
        assert [event and event.value for event in map(backend.read, (ONE, OTHER))] == [b"one", b"other"]

    @pytest.mark.usefixtures("needs_tells_all")
    def test_each_message_is_told_of_it(self, make_backend: MakeBackend) -> None:
        """After what is its own, whether there is any or not."""
        follower, other = make_backend(), make_backend()
        follower.wait_many([b"x"], 1)
        make_backend().signal([Event(ONE, b"one", HOUR), Event(b"a", b"own", HOUR)])
        assert sorted(hear(follower, [b"a"], 2)) == [b"a", ONE]

        for backend in (follower, other):
            assert [(event.key, event.value) for event in backend.events_for(b"a")] == [(b"a", b"own"), (ONE, b"one")]
            assert [(event.key, event.value) for event in backend.events_for(b"b")] == [(ONE, b"one")]

    @pytest.mark.usefixtures("needs_tells_all")
    def test_what_is_for_all_ends(self, make_backend: MakeBackend) -> None:
        """With its own time to live, for those who have heard of it, too."""
        backend = make_backend()
        make_backend().signal([Event(ONE, b"one", SHORT), Event(OTHER, b"other", HOUR)])
        backend.wait_many([b"x"], SHORT)

        wait_until(lambda: ONE not in backend.broadcasts(), "the end of the time to live")

        assert backend.read(ONE) is None
        assert list(backend.broadcasts()) == list(make_backend().broadcasts()) == [OTHER]

    @pytest.mark.usefixtures("needs_tells_all", "needs_revoke")
    def test_what_is_for_all_can_be_taken_back(self, make_backend: MakeBackend) -> None:
        """All hear of that, too."""
        backend = make_backend()
        make_backend().signal([Event(ONE, b"one", HOUR), Event(OTHER, b"other", HOUR)])
        assert sorted(hear(backend, [b"x"], 2)) == [ONE, OTHER]

        assert make_backend().revoke(ONE)

        assert backend.wait_many([b"x"], LONG) == ONE
        assert backend.read(ONE) is None
        assert list(backend.broadcasts()) == list(make_backend().broadcasts()) == [OTHER]

    def test_what_is_for_one_message_is_not_for_all(self, backend: EventBackend) -> None:
        """It is not listed, and not handed out to those who wait for something else."""
        for key in OTHERS:
            backend.notify(key, HOUR)

        assert backend.broadcasts() == {}
        assert backend.wait_many([b"x"], 20) is None

    def test_who_lists_what_is_for_all_says_so(self, backend: EventBackend) -> None:
        """Or ``abort_all()`` would be refused all the same."""
        assert backend.supports_broadcast == overrides(backend, "broadcasts")
