"""The fixtures of the tests, and the conditions for skipping them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ..backends.base import EventBackend, keeps_signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from ..backends.replies import ReplyStore

    MakeBackend: TypeAlias = Callable[[], EventBackend]

__all__ = ["Fixtures", "carries_values", "overrides"]


def overrides(backend: EventBackend, *names: str) -> bool:
    """Return whether the class of a backend overrides all methods with these names."""
    return all(getattr(type(backend), name) is not getattr(EventBackend, name) for name in names)


def carries_values(backend: EventBackend) -> bool:
    """Return whether a backend carries events with values."""
    return overrides(backend, "signal", "read")


class Fixtures:
    """A backend, its reply store, and a fixture for each optional feature, which skips tests if it is missing."""

    @pytest.fixture
    def backend(self, make_backend: MakeBackend) -> EventBackend:
        return make_backend()

    @pytest.fixture
    def reply_store(self, backend: EventBackend) -> ReplyStore:
        if backend.reply_store is None:
            pytest.skip("this backend has no reply store")
        return backend.reply_store

    @pytest.fixture
    def needs_wake(self, backend: EventBackend) -> None:
        _need(overrides(backend, "wake"), "cannot be woken: its class has no wake()")

    @pytest.fixture
    def needs_receives_all(self, backend: EventBackend) -> None:
        _need(backend.receives_all, "does not receive all events: receives_all is False")

    @pytest.fixture
    def needs_broadcast(self, backend: EventBackend) -> None:
        _need(backend.supports_broadcast, "has no broadcasts: supports_broadcast is False")

    @pytest.fixture
    def needs_read(self, backend: EventBackend) -> None:
        _need(keeps_signals(backend), "may consume its signals: its class has no read()")

    @pytest.fixture
    def needs_values(self, backend: EventBackend) -> None:
        _need(carries_values(backend), "carries no values: its class has no signal() and read()")

    @pytest.fixture
    def needs_age(self, backend: EventBackend) -> None:
        _need(overrides(backend, "age"), "knows no ages: its class has no age()")

    @pytest.fixture
    def needs_revoke(self, backend: EventBackend) -> None:
        _need(overrides(backend, "revoke"), "cannot revoke events: its class has no revoke()")


def _need(condition: object, otherwise: str) -> None:
    if not condition:
        pytest.skip(f"this backend {otherwise}")
