"""``receive`` returns the event itself, so that a worker needs no further call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .._protocol.event import Event
from ._fixtures import Fixtures
from ._patience import HOUR, LONG, PATIENCE, in_thread
from ._signals import KEYS

if TYPE_CHECKING:
    from ..backends.base import EventBackend
    from ._fixtures import MakeBackend

__all__ = ["Receipts"]


class Receipts(Fixtures):
    """``receive``, overridden or built on the other methods."""

    def test_a_signal_is_received_once(self, make_backend: MakeBackend) -> None:
        """Also one that was made before the call. ``wait_many`` does not return it again."""
        backend = make_backend()
        make_backend().notify(b"a", HOUR)

        assert received(backend, [b"b", b"a"]) == Event(b"a")
        assert backend.receive([b"a", b"b"], 1) is None
        assert backend.wait_many([b"a", b"b"], 1) is None
        make_backend().notify(b"a", HOUR)
        assert received(backend, [b"a"]) == Event(b"a")

    def test_a_signal_returned_by_wait_many_is_not_received(self, make_backend: MakeBackend) -> None:
        """Together, the two methods return each signal once."""
        backend = make_backend()
        make_backend().notify(b"a", HOUR)
        assert backend.wait_many([b"a"], LONG) == b"a"

        assert backend.receive([b"a", b"b"], 1) is None

    def test_a_wait_receives_a_signal(self, make_backend: MakeBackend) -> None:
        """As soon as it is made, once for each of many keys."""
        backend = make_backend()
        for key in KEYS:
            waiting = in_thread(received, backend, KEYS)
            make_backend().notify(key, HOUR)

            assert waiting.result(PATIENCE) == Event(key)

    @pytest.mark.usefixtures("needs_values")
    def test_an_event_is_received_with_its_value_and_time_to_live(self, make_backend: MakeBackend) -> None:
        """Those of the last of several signals."""
        backend = make_backend()
        for value in (b"one", b"two", b""):
            make_backend().signal([Event(b"a", value, HOUR, priority=1)])
            handed_out = backend.receive([b"a"], LONG)

            assert handed_out is not None
            key, event = handed_out
            assert event is not None
            assert (key, event.key, event.value) == (b"a", b"a", value)
            assert event.ttl is not None
            assert HOUR / 2 < event.ttl <= HOUR

    @pytest.mark.usefixtures("needs_revoke")
    def test_a_revocation_is_received(self, make_backend: MakeBackend) -> None:
        """Once, by the backends that have received the signal."""
        backend = make_backend()
        make_backend().notify(b"a", HOUR)
        assert received(backend, [b"a"]) == Event(b"a")

        assert make_backend().revoke(b"a")

        assert backend.receive([b"b", b"a"], LONG) == (b"a", None)
        assert backend.receive([b"b", b"a"], 1) is None

    @pytest.mark.parametrize("timeout", [0, 1])
    def test_a_receive_ends_after_its_timeout(self, backend: EventBackend, timeout: int) -> None:
        """Which may be 0."""
        assert in_thread(backend.receive, [b"a"], timeout).result(PATIENCE) is None


def received(backend: EventBackend, keys: list[bytes]) -> Event | None:
    """Wait for the next event, and return it without its time to live, which differs between backends."""
    handed_out = backend.receive(keys, LONG)
    assert handed_out is not None
    key, event = handed_out
    assert event is None or event.key == key
    return None if event is None else Event(key, event.value)
