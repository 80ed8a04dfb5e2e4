"""An event backend of somebody's own, with the three methods that it must have and no more."""

from __future__ import annotations

import pytest

from dramatiq_abort import Event, EventBackend, UnsupportedByBackend
from dramatiq_abort.backends import StubBackend

LONG = 60_000


class ThreeMethods(EventBackend):
    """The least that a backend can be."""

    def __init__(self) -> None:
        self.inner = StubBackend()

    def notify(self, key: bytes, ttl: int) -> None:
        self.inner.notify(key, ttl)

    def poll(self, key: bytes) -> bool:
        return self.inner.poll(key)

    def wait_many(self, keys: object, timeout: int) -> bytes | None:
        assert isinstance(keys, list)
        assert keys
        return self.inner.wait_many(keys, timeout)


def test_three_methods_are_enough_for_plain_events() -> None:
    """The others are made of them."""
    backend = ThreeMethods()

    backend.signal([Event(b"a", ttl=LONG), Event(b"b", ttl=LONG)])

    assert backend.read(b"a") == Event(b"a")
    assert backend.read(b"c") is None


def test_what_three_methods_cannot_do_is_said() -> None:
    """Before anything is done."""
    backend = ThreeMethods()

    with pytest.raises(UnsupportedByBackend, match="ThreeMethods carries no values"):
        backend.signal([Event(b"a", ttl=LONG), Event(b"b", b"value", LONG)])
    with pytest.raises(UnsupportedByBackend, match="ThreeMethods cannot take a request back"):
        backend.revoke(b"a")

    assert not backend.poll(b"a")
