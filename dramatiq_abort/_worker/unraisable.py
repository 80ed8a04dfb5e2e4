"""Aborts that come up where nothing can be raised.

The clean-up of a generator that nobody has finished, the callback of a weak reference: what is raised there CPython
hands to ``sys.unraisablehook``, and goes on. An abort that ends there has not been raised at all.
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
    """Gets them back, as long as it is installed.

    Parameters:
      interrupt_again: Called, in the message's own thread, with the message whose abort has been dropped.
    """

    def __init__(self, interrupt_again: Callable[[Execution], None]) -> None:
        self._interrupt_again = interrupt_again
        self._hook = self.unraisablehook  # one object, to be known again
        self._before: Callable[[Any], Any] = sys.unraisablehook
        self._is_installed = False

    def install(self) -> None:
        self._before, sys.unraisablehook = sys.unraisablehook, self._hook
        self._is_installed = True

    def remove(self) -> None:
        """Put back what was there before; where another hook has been installed since, only pass on what comes."""
        self._is_installed = False
        if sys.unraisablehook is self._hook:
            sys.unraisablehook = self._before

    def unraisablehook(self, unraisable: Any) -> None:
        """Get an abort back; the rest is for the hook that was there before. By its name, it is not cut itself."""
        execution = cast("Execution | None", here()) if self._is_installed else None
        if execution is not None and issubclass(unraisable.exc_type, Abort) and execution.rearm():
            self._interrupt_again(execution)
        else:
            self._before(unraisable)
