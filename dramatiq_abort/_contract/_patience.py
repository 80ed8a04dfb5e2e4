"""Waiting in tests: for a condition, and never for a fixed time."""

from __future__ import annotations

import time
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ..backends.base import EventBackend

__all__ = ["HOUR", "LONG", "PATIENCE", "SHORT", "in_thread", "next_keys", "wait_until"]

#: How long to wait for anything expected soon, in seconds and in ms. Only a failing test waits that long.
PATIENCE: Final = 20
LONG: Final = PATIENCE * 1000

#: Times to live, in ms: one that outlasts every test, and one that outlasts the next call.
HOUR: Final = 3_600_000
SHORT: Final = 100

T = TypeVar("T")


def wait_until(condition: Callable[[], object], event: str) -> None:
    """Poll until the condition is true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{event} did not come"
        time.sleep(0.001)


def in_thread(function: Callable[..., T], *arguments: Any) -> Future[T]:
    """Call a function in a daemon thread, which does not keep the process alive if it never returns."""
    future: Future[T] = Future()

    def call() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:  # noqa: BLE001 - raised by result()
            future.set_exception(error)

    Thread(target=call, daemon=True).start()
    return future


def next_keys(backend: EventBackend, keys: Collection[bytes], count: int) -> list[bytes]:
    """Return the next ``count`` keys from ``wait_many``, or fewer if no more come."""
    heard: list[bytes] = []
    while len(heard) < count and (key := backend.wait_many(keys, LONG)) is not None:
        heard.append(key)
    return heard
