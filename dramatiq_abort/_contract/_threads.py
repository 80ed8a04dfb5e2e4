"""All methods may be called from any thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..backends.base import keeps_signals
from ._fixtures import Fixtures
from ._patience import HOUR, PATIENCE, in_thread, next_keys

if TYPE_CHECKING:
    from ..backends.base import EventBackend
    from ._fixtures import MakeBackend

__all__ = ["Threads"]

KEYS = [b"%d" % number for number in range(120)]


class Threads(Fixtures):
    """One backend object in many threads."""

    def test_no_signal_is_lost_or_returned_twice(self, make_backend: MakeBackend) -> None:
        """While many threads signal and one waits, through the same object and through others."""
        backend = make_backend()
        backend.wait_many(KEYS, 1)
        callers = [make_backend(), backend, make_backend(), backend]

        signaling = [in_thread(_signal_and_ask, caller, KEYS[n :: len(callers)]) for n, caller in enumerate(callers)]

        assert sorted(next_keys(backend, KEYS, len(KEYS))) == sorted(KEYS)
        assert backend.wait_many(KEYS, 20) is None
        for each in signaling:
            each.result(PATIENCE)

    def test_concurrent_waits_share_the_signals(self, make_backend: MakeBackend) -> None:
        """Each signal is returned to one of them."""
        backend = make_backend()
        heard: list[bytes] = []
        deadline = time.monotonic() + PATIENCE

        def listen() -> None:
            while len(heard) < len(KEYS) and time.monotonic() < deadline:
                if (key := backend.wait_many(KEYS, 10)) is not None:
                    heard.append(key)
                time.sleep(0)  # lets the other threads have the lock, because not every lock is fair

        waiting = [in_thread(listen) for _ in range(3)]
        _signal_and_ask(make_backend(), KEYS)
        for each in waiting:
            each.result(2 * PATIENCE)

        assert sorted(heard) == sorted(KEYS)


def _signal_and_ask(backend: EventBackend, keys: list[bytes]) -> None:
    for key in keys:
        backend.notify(key, HOUR)
        assert not keeps_signals(backend) or backend.poll(key)
