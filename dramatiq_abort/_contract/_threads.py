"""Any thread may call anything."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..backends.base import keeps_signals
from ._fixtures import Fixtures
from ._patience import HOUR, PATIENCE, hear, in_thread

if TYPE_CHECKING:
    from ..backends.base import EventBackend
    from ._fixtures import MakeBackend

__all__ = ["Threads"]

KEYS = [b"%d" % number for number in range(120)]


class Threads(Fixtures):
    """One object in many threads."""

    def test_nothing_is_lost_and_nothing_comes_twice(self, make_backend: MakeBackend) -> None:
        """However many threads signal while one waits, by the same object or by another."""
        backend = make_backend()
        backend.wait_many(KEYS, 1)
        callers = [make_backend(), backend, make_backend(), backend]

        signaling = [in_thread(_signal_and_ask, caller, KEYS[n :: len(callers)]) for n, caller in enumerate(callers)]

        assert sorted(hear(backend, KEYS, len(KEYS))) == sorted(KEYS)
        assert backend.wait_many(KEYS, 20) is None
        for each in signaling:
            each.result(PATIENCE)

    def test_those_who_wait_on_one_object_share(self, make_backend: MakeBackend) -> None:
        """Each signal is handed out to one of them."""
        backend = make_backend()
        heard: list[bytes] = []
        deadline = time.monotonic() + PATIENCE

        def listen() -> None:
            while len(heard) < len(KEYS) and time.monotonic() < deadline:
                if (key := backend.wait_many(KEYS, 10)) is not None:
                    heard.append(key)
                time.sleep(0)  # whoever else waits for a lock gets it, though not every lock is fair

        waiting = [in_thread(listen) for _ in range(3)]
        _signal_and_ask(make_backend(), KEYS)
        for each in waiting:
            each.result(2 * PATIENCE)

        assert sorted(heard) == sorted(KEYS)


def _signal_and_ask(backend: EventBackend, keys: list[bytes]) -> None:
    for key in keys:
        backend.notify(key, HOUR)
        assert not keeps_signals(backend) or backend.poll(key)
