"""Signals can be queried until their time to live ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest

from .._protocol.request import MAX_KEY, MAX_TIME
from ._fixtures import Fixtures
from ._patience import HOUR, LONG, SHORT, wait_until

if TYPE_CHECKING:
    from ..backends.base import EventBackend
    from ._fixtures import MakeBackend

__all__ = ["KEYS", "Signals"]

#: Any bytes can be a key, up to the maximum length, because programs choose message ids. Each of these is another key.
KEYS: Final = [
    *[
        b"a",
        b"A",
        b" a",
        b"a ",
        b"aa",
        b"a\n",
        b"a\x00",
        b"\x00a",
        b"a\xff",
        b"a\xfe",
        b"\xc3\xa4",
        b"a\xcc\x88",
        b"0",
        b"00",
    ],
    *[b"*", b"?", b"a*", b"[a]", b"%", b"_", b"a%", b"^a", b".", b"..", b"../a", b"a/b", b"a:b", b"{a}", b"\\a", b"$a"],
    *[b"a' OR ''='", b'a" OR ""="', b"a\r\nb", b"a,b", b"a=b", b"None", b"nan", bytes(range(256))],
    *[b"x".ljust(MAX_KEY - 1, b"x") + last for last in (b"y", b"z")],
]


class Signals(Fixtures):
    """``notify`` and ``poll``."""

    @pytest.mark.usefixtures("needs_read")
    def test_a_signal_can_be_polled_by_all(self, make_backend: MakeBackend) -> None:
        """Polling does not consume it, and other keys are not affected."""
        one, other = make_backend(), make_backend()

        one.notify(b"a", HOUR)

        assert [one.poll(b"a"), one.poll(b"a"), other.poll(b"a"), one.poll(b"b")] == [True, True, True, False]

    @pytest.mark.usefixtures("needs_read")
    def test_a_message_gets_its_own_event(self, make_backend: MakeBackend) -> None:
        """From a backend that waits for events, and from one that does not."""
        follower, other = make_backend(), make_backend()
        follower.wait_many([b"a"], 1)
        assert not follower.events_for(b"a")
        make_backend().notify(b"a", HOUR)
        assert follower.wait_many([b"a"], LONG) == b"a"

        assert [[event.key for event in each.events_for(b"a")] for each in (follower, other)] == [[b"a"], [b"a"]]
        assert not follower.events_for(b"b")
        assert not other.events_for(b"b")

    def test_a_signal_is_there_for_the_first_query(self, make_backend: MakeBackend) -> None:
        """By ``poll``, or by ``events_for`` for a starting message. Other keys are not affected."""
        caller, other = make_backend(), make_backend()
        for key in (b"a", b"b"):
            caller.notify(key, HOUR)

        assert [other.poll(b"c"), other.poll(b"a")] == [False, True]
        assert ([*other.events_for(b"c")], [event.key for event in other.events_for(b"b")]) == ([], [b"b"])

    def test_a_signal_ends_the_time_without_events(self, make_backend: MakeBackend) -> None:
        """Where it was made, and where it was received. Otherwise, messages would not query it."""
        follower, other = make_backend(), make_backend()
        for backend in (follower, other):
            backend.wait_many([b"b"], 1)

        other.notify(b"a", HOUR)
        assert other.no_events_before <= time.monotonic()
        assert follower.wait_many([b"a"], LONG) == b"a"
        assert follower.no_events_before <= time.monotonic()
        assert make_backend().no_events_before <= time.monotonic()

    @pytest.mark.usefixtures("needs_read")
    def test_a_returned_signal_can_be_polled(self, make_backend: MakeBackend) -> None:
        """A wait does not consume it."""
        backend = make_backend()
        make_backend().notify(b"a", HOUR)
        assert backend.wait_many([b"a"], LONG) == b"a"

        assert [backend.poll(b"a"), make_backend().poll(b"a")] == [True, True]

    @pytest.mark.usefixtures("needs_read")
    def test_a_signal_ends_with_its_time_to_live(self, backend: EventBackend) -> None:
        """After that, neither queries nor waits return it."""
        backend.notify(b"a", 20)

        wait_until(lambda: not backend.poll(b"a"), "the end of the time to live")

        assert backend.read(b"a") is None
        assert backend.wait_many([b"a"], 1) is None

    @pytest.mark.usefixtures("needs_read")
    def test_a_signal_can_be_made_again_when_it_has_ended(self, backend: EventBackend) -> None:
        """Like a first one."""
        backend.notify(b"a", 1)
        wait_until(lambda: not backend.poll(b"a"), "the end of the time to live")

        backend.notify(b"a", HOUR)

        assert backend.poll(b"a")
        assert backend.wait_many([b"a"], LONG) == b"a"

    @pytest.mark.usefixtures("needs_read")
    @pytest.mark.parametrize("times", [(HOUR, SHORT), (SHORT, HOUR)], ids=["shorter", "longer"])
    def test_the_longest_of_the_times_to_live_counts(self, make_backend: MakeBackend, times: tuple[int, int]) -> None:
        """A later signal may extend the time to live, and never shortens it."""
        backend = make_backend()
        for time_to_live in times:
            backend.notify(b"a", time_to_live)

        backend.notify(b"clock", SHORT)
        wait_until(lambda: not backend.poll(b"clock"), "the end of the short time to live")

        assert [backend.poll(b"a"), make_backend().poll(b"a")] == [True, True]
        assert backend.wait_many([b"a"], LONG) == b"a"

    def test_a_time_to_live_can_be_a_hundred_years(self, backend: EventBackend) -> None:
        """The maximum time is accepted."""
        backend.notify(b"a", MAX_TIME)

        assert backend.poll(b"a")

    @pytest.mark.usefixtures("needs_read")
    @pytest.mark.parametrize("keys", [KEYS, KEYS[::-1]], ids=["forwards", "backwards"])
    def test_a_key_is_signaled_alone(self, make_backend: MakeBackend, keys: list[bytes]) -> None:
        """No other key is signaled, whatever bytes they contain."""
        backend, caller = make_backend(), make_backend()
        for count, key in enumerate(keys, 1):
            caller.notify(key, HOUR)

            assert [each for each in keys if caller.poll(each)] == keys[:count]
            assert backend.wait_many(keys, LONG) == key
        assert backend.wait_many(keys, 1) is None
