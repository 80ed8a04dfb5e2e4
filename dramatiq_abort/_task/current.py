"""The execution that a task is in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from .._core.current import Current, here

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .._core.shield import AnyShield

__all__ = ["TaskExecution", "current_execution"]


class TaskExecution(Current, Protocol):
    """What a task can do with its execution: see ``_worker/execution.py``."""

    def check(self) -> None:
        """Raise ``Abort`` here if it is due, and as long as that has not been done."""

    def grace_left(self) -> float | None:
        """Return how many milliseconds the message may go on after a request to abort it; None without one."""

    def shield(self) -> AnyShield:
        """Return a context manager inside of which interrupts wait."""

    def bell(self, ring: Callable[[], object]) -> AbstractContextManager[None]:
        """Have this called, in another thread, when the message is to stop, and each time when that is tried again."""

    def library_of_loop_here(self) -> str | None:
        """Return whose event loop the caller is in, as a coroutine or a callback; None: it is in none."""

    def follow_itself(self) -> None:
        """Have the core watch this thread itself, where it cannot be watched from another one."""


def current_execution() -> TaskExecution | None:
    """Return the execution that takes place here, or None outside of a message that can be aborted."""
    return cast("TaskExecution | None", here())
