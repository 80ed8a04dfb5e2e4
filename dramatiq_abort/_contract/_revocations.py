"""What was signaled can be taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .._protocol.event import Event
from ._fixtures import Fixtures, carries_values
from ._patience import HOUR, LONG, PATIENCE, SHORT, in_thread, wait_until

if TYPE_CHECKING:
    from ..backends.base import EventBackend
    from ._fixtures import MakeBackend

__all__ = ["Revocations"]


class Revocations(Fixtures):
    """``revoke``."""

    @pytest.mark.usefixtures("needs_revoke")
    def test_a_signal_can_be_taken_back(self, make_backend: MakeBackend) -> None:
        """And it is said whether there was one; those who wait do not hear of it, and others are not touched."""
        make_backend().notify(b"a", HOUR)
        make_backend().notify(b"b", HOUR)

        assert [make_backend().revoke(key) for key in (b"a", b"a", b"c")] == [True, False, False]

        backend = make_backend()
        assert (backend.poll(b"a"), backend.read(b"a"), backend.poll(b"b")) == (False, None, True)
        assert backend.wait_many([b"a", b"c"], 1) is None

    @pytest.mark.usefixtures("needs_revoke")
    def test_what_was_taken_back_can_be_signaled_again(self, make_backend: MakeBackend) -> None:
        """It begins anew: what it said before, and for how long, does not count."""
        backend = make_backend()
        valued = carries_values(backend)
        make_backend().signal([Event(b"a", b"one" if valued else b"", HOUR)])
        assert backend.wait_many([b"a"], LONG) == b"a"
        assert make_backend().revoke(b"a")

        make_backend().signal([Event(b"a", b"two" if valued else b"", HOUR // 2, priority=-1)])

        event = make_backend().read(b"a")
        assert event is not None
        assert event.value == (b"two" if valued else b"")
        assert event.ttl is None or event.ttl <= HOUR // 2

        assert make_backend().revoke(b"a")
        make_backend().signal([Event(b"a", b"", SHORT, priority=-1)])
        wait_until(lambda: not make_backend().poll(b"a"), "the end of the short time to live")

    @pytest.mark.usefixtures("needs_revoke")
    def test_who_has_heard_of_a_signal_hears_that_it_was_taken_back(self, make_backend: MakeBackend) -> None:
        """Once: its key is handed out again, and there is nothing to read."""
        backend = make_backend()
        make_backend().notify(b"a", HOUR)
        assert backend.wait_many([b"a", b"b"], LONG) == b"a"
        waiting = in_thread(backend.wait_many, [b"a", b"b"], LONG)

        assert make_backend().revoke(b"a")

        assert waiting.result(PATIENCE) == b"a"
        assert (backend.read(b"a"), backend.poll(b"a")) == (None, False)
        assert backend.wait_many([b"a", b"b"], 1) is None

    @pytest.mark.usefixtures("needs_revoke")
    def test_who_has_not_heard_of_a_signal_hears_nothing(self, make_backend: MakeBackend) -> None:
        """Not even who has been there all the time."""
        backend = make_backend()
        assert backend.wait_many([b"b"], 1) is None
        caller = make_backend()
        caller.notify(b"a", HOUR)
        assert caller.revoke(b"a")
        caller.notify(b"b", HOUR)

        assert backend.wait_many([b"a", b"b"], LONG) == b"b"
        assert backend.wait_many([b"a", b"b"], 1) is None

    @pytest.mark.usefixtures("needs_revoke")
    def test_who_hears_of_what_came_after_can_read_it(self, make_backend: MakeBackend) -> None:
        """Taken back and made again: it is there."""
        backend = make_backend()
        make_backend().notify(b"a", HOUR)
        assert backend.wait_many([b"a"], LONG) == b"a"

        make_backend().revoke(b"a")
        make_backend().notify(b"a", HOUR)

        assert backend.wait_many([b"a"], LONG) == b"a"
        wait_until(lambda: backend.read(b"a") is not None, "the second signal")

    @pytest.mark.usefixtures("needs_revoke")
    def test_what_has_ended_cannot_be_taken_back(self, backend: EventBackend) -> None:
        """There is nothing any more."""
        backend.notify(b"a", 1)
        wait_until(lambda: not backend.poll(b"a"), "the end of the time to live")

        assert backend.revoke(b"a") is False
