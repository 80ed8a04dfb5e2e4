"""What is received is the event itself: a worker asks for nothing more."""

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
    """``receive``, a backend's own or the one that is made of its other methods."""

    def test_a_signal_is_received_once(self, make_backend: MakeBackend) -> None:
        """Also one that was made before; nothing is left for ``wait_many``."""
        backend = make_backend()
        make_backend().notify(b"a", HOUR)

        assert received(backend, [b"b", b"a"]) == Event(b"a")
        assert backend.receive([b"a", b"b"], 1) is None
        assert backend.wait_many([b"a", b"b"], 1) is None
        make_backend().notify(b"a", HOUR)
        assert received(backend, [b"a"]) == Event(b"a")

    def test_what_was_waited_for_is_not_received(self, make_backend: MakeBackend) -> None:
        """Both hand out the same."""
        backend = make_backend()
        make_backend().notify(b"a", HOUR)
        assert backend.wait_many([b"a"], LONG) == b"a"

        assert backend.receive([b"a", b"b"], 1) is None

    def test_who_waits_receives_what_is_signaled(self, make_backend: MakeBackend) -> None:
        """As soon as it is; of each of many keys once."""
        backend = make_backend()
        for key in KEYS:
            waiting = in_thread(received, backend, KEYS)
            make_backend().notify(key, HOUR)

            assert waiting.result(PATIENCE) == Event(key)

    @pytest.mark.usefixtures("needs_values")
    def test_an_event_is_received_with_its_value_and_its_time(self, make_backend: MakeBackend) -> None:
        """That of the last signal, whatever its priority."""
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
    def test_it_is_received_that_a_signal_was_taken_back(self, make_backend: MakeBackend) -> None:
        """Once, by those who have received the signal."""
        backend = make_backend()
        make_backend().notify(b"a", HOUR)
        assert received(backend, [b"a"]) == Event(b"a")

        assert make_backend().revoke(b"a")

        assert backend.receive([b"b", b"a"], LONG) == (b"a", None)
        assert backend.receive([b"b", b"a"], 1) is None

    @pytest.mark.parametrize("timeout", [0, 1])
    def test_a_receipt_ends_with_its_time(self, backend: EventBackend, timeout: int) -> None:
        """And it may have none."""
        assert in_thread(backend.receive, [b"a"], timeout).result(PATIENCE) is None


def received(backend: EventBackend, keys: list[bytes]) -> Event | None:
    """Wait for the next event, and return what is the same for all backends."""
    handed_out = backend.receive(keys, LONG)
    assert handed_out is not None
    key, event = handed_out
    assert event is None or event.key == key
    return None if event is None else Event(key, event.value)
