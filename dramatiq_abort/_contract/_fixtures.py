"""What the tests of the contract are given, and which of them a backend is asked."""

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
    """Say whether a backend has methods of its own with these names."""
    return all(getattr(type(backend), name) is not getattr(EventBackend, name) for name in names)


def carries_values(backend: EventBackend) -> bool:
    """Say whether its events say anything."""
    return overrides(backend, "signal", "read")


class Fixtures:
    """One of the backends that are made, and a reason to skip for each thing that it need not have."""

    @pytest.fixture
    def backend(self, make_backend: MakeBackend) -> EventBackend:
        return make_backend()

    @pytest.fixture
    def board(self, backend: EventBackend) -> ReplyStore:
        if backend.reply_store is None:
            pytest.skip("this backend has no reply store")
        return backend.reply_store

    @pytest.fixture
    def needs_wake(self, backend: EventBackend) -> None:
        _need(overrides(backend, "wake"), "cannot be woken: its class has no wake()")

    @pytest.fixture
    def needs_hears_all(self, backend: EventBackend) -> None:
        _need(backend.receives_all, "does not hear all: hears_all is False")

    @pytest.fixture
    def needs_tells_all(self, backend: EventBackend) -> None:
        _need(backend.supports_broadcast, "does not tell all: tells_all is False")

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
        _need(overrides(backend, "revoke"), "takes nothing back: its class has no revoke()")


def _need(condition: object, what_if_not: str) -> None:
    if not condition:
        pytest.skip(f"this backend {what_if_not}")
