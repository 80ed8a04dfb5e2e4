"""Values of events, and which of two values of one key remains."""

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

#: Any bytes can be a value, including some that look like something else.
VALUES = [b"x", b"0", b"1.5", b"null", b"{}", b"a\x00b", b"\xff", b" ", bytes(range(256)), b"y" * MAX_VALUE]


class Values(Fixtures):
    """``signal`` and ``read``. Without them, only events without a value are tested."""

    def test_plain_events_are_signaled_at_once(self, make_backend: MakeBackend) -> None:
        """More than fit into one step, from any iterable, or none at all."""
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
        """The longer time to live counts, as for two signals in succession."""
        backend = make_backend()
        backend.signal(Event(b"a", ttl=time_to_live) for time_to_live in times)
        backend.notify(b"clock", SHORT)
        wait_until(lambda: not backend.poll(b"clock"), "the end of the short time to live")

        assert backend.poll(b"a")

    @pytest.mark.usefixtures("needs_read")
    def test_a_plain_event_has_no_value(self, backend: EventBackend) -> None:
        """``read`` returns it with an empty one."""
        backend.notify(b"a", HOUR)
        event = backend.read(b"a")

        assert event is not None
        assert (event.key, event.value) == (b"a", b"")
        assert backend.read(b"b") is None

    @pytest.mark.usefixtures("needs_values")
    def test_an_event_carries_its_value_and_time_to_live(self, make_backend: MakeBackend) -> None:
        """To backends that wait for it, and to others."""
        backend, caller = make_backend(), make_backend()
        for value in VALUES:
            caller.signal([Event(b"a", value, HOUR)])

            assert backend.wait_many([b"a"], LONG) == b"a"
            for reader in (backend, caller, make_backend()):
                assert value_of(reader, b"a") == value
                assert HOUR / 2 < time_left(reader, b"a") <= HOUR

    @pytest.mark.usefixtures("needs_values")
    def test_each_event_has_its_own_value(self, make_backend: MakeBackend) -> None:
        """Also if many are signaled at once, whatever their keys."""
        make_backend().signal(Event(key, b"value of " + key, HOUR) for key in KEYS)

        backend = make_backend()
        assert {key: value_of(backend, key) for key in KEYS} == {key: b"value of " + key for key in KEYS}

    @pytest.mark.usefixtures("needs_values")
    def test_a_returned_event_can_be_read(self, make_backend: MakeBackend) -> None:
        """At once: a worker that cannot read an event takes it for a revoked one."""
        backend, caller = make_backend(), make_backend()
        for number in range(20):
            waiting = in_thread(backend.wait_many, [b"a"], LONG)
            caller.signal([Event(b"a", b"%d" % number, HOUR)])

            assert waiting.result(PATIENCE) == b"a"
            assert value_of(backend, b"a") == b"%d" % number

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
    def test_the_stronger_of_two_events_remains(
        self, make_backend: MakeBackend, first: bytes, second: bytes, priority: int, wins: bytes
    ) -> None:
        """Also for a backend that has returned the first one."""
        backend = make_backend()
        make_backend().signal([Event(b"a", first, HOUR)])
        assert backend.wait_many([b"a"], LONG) == b"a"

        make_backend().signal([Event(b"a", second, HOUR, priority)])

        assert value_of(make_backend(), b"a") == wins
        if wins != first:
            assert backend.wait_many([b"a"], LONG) == b"a"
        assert value_of(backend, b"a") == wins

    @pytest.mark.usefixtures("needs_values")
    @pytest.mark.parametrize("priority", [-1, 0, 1])
    @pytest.mark.parametrize("times", [(HOUR, SHORT), (SHORT, HOUR)], ids=["shorter", "longer"])
    def test_the_longer_time_to_live_counts(
        self, make_backend: MakeBackend, times: tuple[int, int], priority: int
    ) -> None:
        """Whichever value remains."""
        backend = make_backend()
        first, second = times
        backend.signal([Event(b"a", b"one", first)])
        backend.signal([Event(b"a", b"two", second, priority)])
        backend.notify(b"clock", SHORT)
        wait_until(lambda: not backend.poll(b"clock"), "the end of the short time to live")

        assert HOUR / 2 < time_left(make_backend(), b"a") <= HOUR

    @pytest.mark.usefixtures("needs_values")
    def test_an_expired_event_does_not_count(self, backend: EventBackend) -> None:
        """It is replaced whatever the priority of the next one."""
        backend.signal([Event(b"a", b"one", 1, priority=1)])
        wait_until(lambda: not backend.poll(b"a"), "the end of the time to live")
        assert backend.read(b"a") is None

        backend.signal([Event(b"a", b"two", HOUR, priority=-1)])

        assert value_of(backend, b"a") == b"two"

    @pytest.mark.usefixtures("needs_age")
    def test_an_age_is_not_too_high(self, make_backend: MakeBackend) -> None:
        """Otherwise, a message that started before it was cancelled would be stopped.

        A backend that receives an event when it is signaled knows its age, which grows.
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


def value_of(backend: EventBackend, key: bytes) -> bytes | None:
    """Return the value of the event of a key, or None if the key is not signaled."""
    event = backend.read(key)
    assert event is None or event.key == key
    return None if event is None else event.value


def time_left(backend: EventBackend, key: bytes) -> int:
    """Return the remaining time to live of the event of a key, in milliseconds."""
    event = backend.read(key)
    assert event is not None
    assert event.ttl is not None
    return event.ttl
