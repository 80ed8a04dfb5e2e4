"""Aborts that are raised in callbacks from which no exception can propagate.

CPython passes an exception raised in the clean-up of an unfinished generator, or in the callback of a weak reference,
to ``sys.unraisablehook``, and continues. An abort that ends there has had no effect.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

from .._core.current import here
from ..errors import Abort

if TYPE_CHECKING:
    from collections.abc import Callable

    from .execution import Execution

__all__ = ["UnraisableAborts"]


class UnraisableAborts:
    """Catches such aborts while it is installed, and has them raised again.

    Parameters:
      interrupt_again: Called with the message whose abort has been dropped, in the message's own thread.
    """

    def __init__(self, interrupt_again: Callable[[Execution], None]) -> None:
        self._interrupt_again = interrupt_again
        self._hook = self.unraisablehook  # one object, so that remove() recognises it
        self._before: Callable[[Any], Any] = sys.unraisablehook
        self._is_installed = False

    def install(self) -> None:
        self._before, sys.unraisablehook = sys.unraisablehook, self._hook
        self._is_installed = True

    def remove(self) -> None:
        """Restore the previous hook. If another hook has been installed since, only pass exceptions on from now on."""
        self._is_installed = False
        if sys.unraisablehook is self._hook:
            sys.unraisablehook = self._before

    def unraisablehook(self, unraisable: Any) -> None:
        """Have an abort raised again, and pass anything else to the previous hook.

        Functions of this name are protected code, so the hook itself is not interrupted.
        """
        execution = cast("Execution | None", here()) if self._is_installed else None
        if execution is not None and issubclass(unraisable.exc_type, Abort) and execution.rearm():
            self._interrupt_again(execution)
        else:
            self._before(unraisable)
