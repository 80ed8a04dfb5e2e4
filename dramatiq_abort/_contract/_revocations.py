"""Signals can be revoked."""

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
    def test_a_signal_can_be_revoked(self, make_backend: MakeBackend) -> None:
        """``revoke`` returns whether it was live. No wait returns the key, and other keys are not affected."""
        make_backend().notify(b"a", HOUR)
        make_backend().notify(b"b", HOUR)

        assert [make_backend().revoke(key) for key in (b"a", b"a", b"c")] == [True, False, False]

        backend = make_backend()
        assert (backend.poll(b"a"), backend.read(b"a"), backend.poll(b"b")) == (False, None, True)
        assert backend.wait_many([b"a", b"c"], 1) is None

    @pytest.mark.usefixtures("needs_revoke")
    def test_a_revoked_key_can_be_signaled_again(self, make_backend: MakeBackend) -> None:
        """Its former value and time to live do not count."""
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
    def test_a_backend_that_returned_a_signal_returns_its_revocation(self, make_backend: MakeBackend) -> None:
        """Once: the key is returned again, and cannot be read."""
        backend = make_backend()
        make_backend().notify(b"a", HOUR)
        assert backend.wait_many([b"a", b"b"], LONG) == b"a"
        waiting = in_thread(backend.wait_many, [b"a", b"b"], LONG)

        assert make_backend().revoke(b"a")

        assert waiting.result(PATIENCE) == b"a"
        assert (backend.read(b"a"), backend.poll(b"a")) == (None, False)
        assert backend.wait_many([b"a", b"b"], 1) is None

    @pytest.mark.usefixtures("needs_revoke")
    def test_a_backend_that_did_not_return_a_signal_returns_nothing(self, make_backend: MakeBackend) -> None:
        """Even if it existed when the signal was made."""
        backend = make_backend()
        assert backend.wait_many([b"b"], 1) is None
        caller = make_backend()
        caller.notify(b"a", HOUR)
        assert caller.revoke(b"a")
        caller.notify(b"b", HOUR)

        assert backend.wait_many([b"a", b"b"], LONG) == b"b"
        assert backend.wait_many([b"a", b"b"], 1) is None

    @pytest.mark.usefixtures("needs_revoke")
    def test_a_signal_after_a_revocation_can_be_read(self, make_backend: MakeBackend) -> None:
        """Also by a backend that had returned the first signal."""
        backend = make_backend()
        make_backend().notify(b"a", HOUR)
        assert backend.wait_many([b"a"], LONG) == b"a"

        make_backend().revoke(b"a")
        make_backend().notify(b"a", HOUR)

        assert backend.wait_many([b"a"], LONG) == b"a"
        wait_until(lambda: backend.read(b"a") is not None, "the second signal")

    @pytest.mark.usefixtures("needs_revoke")
    def test_an_expired_signal_cannot_be_revoked(self, backend: EventBackend) -> None:
        """``revoke`` returns False."""
        backend.notify(b"a", 1)
        wait_until(lambda: not backend.poll(b"a"), "the end of the time to live")

        assert backend.revoke(b"a") is False
