"""The execution to which the calling code belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from .._core.current import Current, here

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .._core.shield import AnyShield

__all__ = ["TaskExecution", "current_execution"]


class TaskExecution(Current, Protocol):
    """The part of an execution that tasks use. ``_worker/execution.py`` implements it."""

    def check(self) -> None:
        """Raise ``Abort`` in the caller if it is due and has not been raised yet."""

    def grace_left(self) -> float | None:
        """Return how many milliseconds of the grace period are left; None without an abort request."""

    def shield(self) -> AnyShield:
        """Return a context manager inside which interrupts wait."""

    def bell(self, ring: Callable[[], object]) -> AbstractContextManager[None]:
        """Return a context in which ``ring`` is called from another thread when the message is to stop.

        It is called again each time the interrupt is repeated.
        """

    def library_of_loop_here(self) -> str | None:
        """Return the name of the library whose event loop runs the caller; None outside an event loop."""

    def follow_itself(self) -> None:
        """Make the core follow this thread from within, for cores that cannot do so from another thread."""


def current_execution() -> TaskExecution | None:
    """Return the current execution, or None outside an abortable message."""
    return cast("TaskExecution | None", here())
