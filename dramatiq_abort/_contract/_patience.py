"""How the contract waits: for what comes, and never for a time to pass."""

from __future__ import annotations

import time
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ..backends.base import EventBackend

__all__ = ["HOUR", "LONG", "PATIENCE", "SHORT", "hear", "in_thread", "wait_until"]

#: How long anything may take that should be there soon, in seconds and in ms: only a failure waits for so long.
PATIENCE: Final = 20
LONG: Final = PATIENCE * 1000

#: Times to live, in ms: one that no test sees the end of, and one that is not over before the next call.
HOUR: Final = 3_600_000
SHORT: Final = 100

T = TypeVar("T")


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Return when the condition is true, which nothing signals."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.001)


def in_thread(function: Callable[..., T], *arguments: Any) -> Future[T]:
    """Call a function in a thread of its own; one that never returns does not keep the process from its end."""
    future: Future[T] = Future()

    def call() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:  # noqa: BLE001 - for whoever asks for the result
            future.set_exception(error)

    Thread(target=call, daemon=True).start()
    return future


def hear(backend: EventBackend, keys: Collection[bytes], count: int) -> list[bytes]:
    """Return the next ``count`` keys that are handed out, or fewer, if no more come."""
    heard: list[bytes] = []
    while len(heard) < count and (key := backend.wait_many(keys, LONG)) is not None:
        heard.append(key)
    return heard
