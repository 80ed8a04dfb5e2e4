"""Waits return each signal once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from ._fixtures import Fixtures
from ._patience import HOUR, LONG, PATIENCE, in_thread, next_keys, wait_until

if TYPE_CHECKING:
    from ..backends.base import EventBackend
    from ._fixtures import MakeBackend

__all__ = ["Waits"]


class Waits(Fixtures):
    """``wait_many`` and ``wake``."""

    @pytest.mark.usefixtures("needs_read")
    def test_a_signal_ends_all_waits_for_it(self, make_backend: MakeBackend) -> None:
        """Whichever backend object made it."""
        backends = {id(backend): backend for backend in (make_backend() for _ in range(3))}  # they may be one object
        waiting = [in_thread(backend.wait_many, [b"a", b"b"], LONG) for backend in backends.values()]

        make_backend().notify(b"b", HOUR)

        assert [each.result(PATIENCE) for each in waiting] == [b"b"] * len(waiting)

    def test_a_signal_is_returned_once(self, backend: EventBackend) -> None:
        """Whatever keys are waited for in between, and once more when it is made again."""
        backend.notify(b"a", HOUR)
        backend.notify(b"b", HOUR)

        assert sorted(next_keys(backend, [b"a", b"b"], 2)) == [b"a", b"b"]
        assert backend.wait_many([b"a", b"b"], 1) is None
        assert backend.wait_many([b"c"], 1) is None
        assert backend.wait_many([b"b", b"a"], 1) is None
        backend.notify(b"a", HOUR)
        assert backend.wait_many([b"a", b"b"], LONG) == b"a"
        assert backend.wait_many([b"a", b"b"], 1) is None

    def test_a_signal_is_returned_to_a_later_backend(self, make_backend: MakeBackend) -> None:
        """A worker that starts after the request receives it."""
        make_backend().notify(b"a", HOUR)

        assert make_backend().wait_many([b"b", b"a"], LONG) == b"a"

    def test_a_signal_is_kept_for_a_later_wait(self, make_backend: MakeBackend) -> None:
        """Also if it arrives during a wait for other keys."""
        backend = make_backend()
        assert backend.wait_many([b"b"], 1) is None
        make_backend().notify(b"a", HOUR)

        assert backend.wait_many([b"b"], 20) is None
        assert backend.wait_many([b"b", b"a"], LONG) == b"a"

    @pytest.mark.usefixtures("needs_receives_all")
    def test_the_keys_may_grow_while_it_waits(self, make_backend: MakeBackend) -> None:
        """A message that started a moment ago is covered, without another call to the backend."""
        backend = make_backend()
        keys: list[bytes] = []
        waiting = in_thread(backend.wait_many, keys, LONG)

        keys.append(b"a")
        make_backend().notify(b"a", HOUR)

        assert waiting.result(PATIENCE) == b"a"

    def test_many_keys_are_waited_for_at_once(self, make_backend: MakeBackend) -> None:
        """As many as a worker process can run messages."""
        keys = [b"%d" % number for number in range(1_500)]
        backend = make_backend()
        make_backend().notify(keys[-1], HOUR)

        assert backend.wait_many(keys, LONG) == keys[-1]

    @pytest.mark.parametrize("timeout", [0, 1])
    def test_a_wait_ends_after_its_timeout(self, backend: EventBackend, timeout: int) -> None:
        """Which may be 0."""
        assert in_thread(backend.wait_many, [b"a"], timeout).result(PATIENCE) is None

    def test_a_wait_lasts_as_long_as_its_timeout(self, backend: EventBackend) -> None:
        """Otherwise, a worker would poll in a busy loop."""
        assert waits_for(backend, 200) >= 0.1

    @pytest.mark.usefixtures("needs_wake")
    def test_a_wait_can_be_ended(self, backend: EventBackend) -> None:
        """A worker that stops does not wait for the timeout. The next wait has its full length."""
        waiting = in_thread(backend.wait_many, [b"a"], HOUR)
        woken = 0

        def is_over() -> bool:
            nonlocal woken
            backend.wake()
            woken += 1
            return waiting.done()

        wait_until(is_over, "the end of the wait")
        assert waiting.result() is None
        for _ in range(woken):  # a wake() that came after the end of the wait may apply to the next one
            backend.wait_many([b"a"], 0)
        assert waits_for(backend, 200) >= 0.1

    @pytest.mark.usefixtures("needs_wake")
    def test_nothing_is_lost_when_a_wait_is_ended(self, make_backend: MakeBackend) -> None:
        """Neither an earlier signal nor a later one."""
        backend = make_backend()
        make_backend().notify(b"a", HOUR)
        backend.wake()
        # The wake() may end the first wait.
        first = backend.wait_many([b"a", b"b"], LONG) or backend.wait_many([b"a", b"b"], LONG)
        make_backend().notify(b"b", HOUR)
        second = backend.wait_many([b"a", b"b"], LONG) or backend.wait_many([b"a", b"b"], LONG)

        assert (first, second) == (b"a", b"b")


def waits_for(backend: EventBackend, timeout: int) -> float:
    """Return how many seconds a wait without a signal takes."""
    began = time.monotonic()
    assert backend.wait_many([b"a"], timeout) is None
    return time.monotonic() - began
