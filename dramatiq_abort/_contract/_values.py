"""What an event says, and which of two events of one key says it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from .._protocol.event import Event
from .._protocol.request import MAX_VALUE
from ..backends.base import keeps_signals
from ._fixtures import Fixtures
from ._patience import HOUR, LONG, PATIENCE, SHORT, in_thread, wait_until
from ._signals import KEYS

if TYPE_CHECKING:
    from ..backends.base import EventBackend
    from ._fixtures import MakeBackend

__all__ = ["Values"]

#: Any bytes can be a value, and more than one looks like something else.
VALUES = [b"x", b"0", b"1.5", b"null", b"{}", b"a\x00b", b"\xff", b" ", bytes(range(256)), b"y" * MAX_VALUE]


class Values(Fixtures):
    """``signal`` and ``read``; without them, only that plain events are signaled."""

    def test_plain_events_are_signaled_at_once(self, make_backend: MakeBackend) -> None:
        """More than fit into one step, from any iterable; or none."""
        keys = [b"%d" % number for number in range(250)]
        make_backend().signal([])
        make_backend().signal(Event(key, ttl=HOUR) for key in keys)

        backend = make_backend()
        assert {backend.wait_many(keys, LONG) for _ in keys} == set(keys)
        if keeps_signals(backend):
            assert [key for key in keys if not backend.poll(key)] == []

    @pytest.mark.usefixtures("needs_read")
    @pytest.mark.parametrize("times", [(HOUR, SHORT), (SHORT, HOUR)], ids=["shorter", "longer"])
    def test_one_key_is_signaled_twice_at_once(self, make_backend: MakeBackend, times: tuple[int, int]) -> None:
        """The longest of the times to live counts, as if one came after the other."""
        backend = make_backend()
        backend.signal(Event(b"a", ttl=time_to_live) for time_to_live in times)
        backend.notify(b"clock", SHORT)
        wait_until(lambda: not backend.poll(b"clock"), "the end of the short time to live")

        assert backend.poll(b"a")

    @pytest.mark.usefixtures("needs_read")
    def test_a_plain_event_says_nothing(self, backend: EventBackend) -> None:
        """But that it is there."""
        backend.notify(b"a", HOUR)
        event = backend.read(b"a")

        assert event is not None
        assert (event.key, event.value) == (b"a", b"")
        assert backend.read(b"b") is None

    @pytest.mark.usefixtures("needs_values")
    def test_an_event_carries_its_value_and_its_time(self, make_backend: MakeBackend) -> None:
        """To those who hear of it and to those who ask."""
        backend, caller = make_backend(), make_backend()
        for value in VALUES:
            caller.signal([Event(b"a", value, HOUR)])

            assert backend.wait_many([b"a"], LONG) == b"a"
            for reader in (backend, caller, make_backend()):
                assert said(reader, b"a") == value
                assert HOUR / 2 < time_left(reader, b"a") <= HOUR

    @pytest.mark.usefixtures("needs_values")
    def test_each_event_has_its_own_value(self, make_backend: MakeBackend) -> None:
        """Of many that are signaled at once, whatever their keys."""
        make_backend().signal(Event(key, b"value of " + key, HOUR) for key in KEYS)

        backend = make_backend()
        assert {key: said(backend, key) for key in KEYS} == {key: b"value of " + key for key in KEYS}

    @pytest.mark.usefixtures("needs_values")
    def test_what_is_heard_of_can_be_read(self, make_backend: MakeBackend) -> None:
        """At once: who has heard of an event and cannot read it takes it for one that was taken back."""
        backend, caller = make_backend(), make_backend()
        for number in range(20):
            waiting = in_thread(backend.wait_many, [b"a"], LONG)
            caller.signal([Event(b"a", b"%d" % number, HOUR)])

            assert waiting.result(PATIENCE) == b"a"
            assert said(backend, b"a") == b"%d" % number

    @pytest.mark.usefixtures("needs_values")
    @pytest.mark.parametrize(
        ("first", "second", "priority", "wins"),
        [
            (b"one", b"two", 0, b"two"),
            (b"one", b"", 0, b""),
            (b"", b"two", 0, b""),
            (b"", b"two", 1, b"two"),
            (b"one", b"two", 1, b"two"),
            (b"one", b"two", -1, b"one"),
            (b"", b"two", -1, b""),
        ],
    )
    def test_the_stronger_of_two_events_counts(
        self, make_backend: MakeBackend, first: bytes, second: bytes, priority: int, wins: bytes
    ) -> None:
        """To those who have heard of the first one, too."""
        backend = make_backend()
        make_backend().signal([Event(b"a", first, HOUR)])
        assert backend.wait_many([b"a"], LONG) == b"a"

        make_backend().signal([Event(b"a", second, HOUR, priority)])

        assert said(make_backend(), b"a") == wins
        if wins != first:
            assert backend.wait_many([b"a"], LONG) == b"a"
        assert said(backend, b"a") == wins

    @pytest.mark.usefixtures("needs_values")
    @pytest.mark.parametrize("priority", [-1, 0, 1])
    @pytest.mark.parametrize("times", [(HOUR, SHORT), (SHORT, HOUR)], ids=["shorter", "longer"])
    def test_the_longest_of_their_times_counts(
        self, make_backend: MakeBackend, times: tuple[int, int], priority: int
    ) -> None:
        """Whichever of the two is the stronger one."""
        backend = make_backend()
        first, second = times
        backend.signal([Event(b"a", b"one", first)])
        backend.signal([Event(b"a", b"two", second, priority)])
        backend.notify(b"clock", SHORT)
        wait_until(lambda: not backend.poll(b"clock"), "the end of the short time to live")

        assert HOUR / 2 < time_left(make_backend(), b"a") <= HOUR

    @pytest.mark.usefixtures("needs_values")
    def test_an_event_that_has_ended_is_in_nobodys_way(self, backend: EventBackend) -> None:
        """However weak the next one is."""
        backend.signal([Event(b"a", b"one", 1, priority=1)])
        wait_until(lambda: not backend.poll(b"a"), "the end of the time to live")
        assert backend.read(b"a") is None

        backend.signal([Event(b"a", b"two", HOUR, priority=-1)])

        assert said(backend, b"a") == b"two"

    @pytest.mark.usefixtures("needs_age")
    def test_an_age_is_not_more_than_it_is(self, make_backend: MakeBackend) -> None:
        """Or a message that started before it was cancelled would be stopped.

        A backend that hears of an event as it is signaled knows its age, and that grows.
        """
        backend = make_backend()
        assert backend.wait_many([b"a"], 1) is None
        assert backend.age(b"a") is None
        began = time.monotonic()
        make_backend().notify(b"a", HOUR)
        assert backend.wait_many([b"a"], LONG) == b"a"
        age = backend.age(b"a")

        assert age is not None
        assert age <= (time.monotonic() - began) * 1000
        wait_until(lambda: (backend.age(b"a") or 0) > age, "the next millisecond")


def said(backend: EventBackend, key: bytes) -> bytes | None:
    """Return what the event of a key says, or None if there is none."""
    event = backend.read(key)
    assert event is None or event.key == key
    return None if event is None else event.value


def time_left(backend: EventBackend, key: bytes) -> int:
    """Return for how many milliseconds the event of a key can be read."""
    event = backend.read(key)
    assert event is not None
    assert event.ttl is not None
    return event.ttl
