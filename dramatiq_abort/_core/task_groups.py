"""Task groups of CPython 3.11 and 3.12, in a process whose coroutines can be interrupted.

These accept only ``CancelledError`` itself as a cancellation of their body, and wrap its subclasses in an exception
group (``Lib/asyncio/taskgroups.py``; from 3.13 on it calls ``issubclass``).
"""

from __future__ import annotations

import asyncio
import functools
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from types import TracebackType

__all__ = ["accept_subclasses"]


@functools.cache
def accept_subclasses() -> None:
    """Have task groups behave as from 3.13 on. Called when the first coroutine runs in a scope, and not before."""
    if sys.version_info >= (3, 11) and sys.version_info < (3, 13):
        original = asyncio.TaskGroup.__aexit__

        @functools.wraps(original)
        def exit_task_group(
            group: asyncio.TaskGroup,
            exc_type: type[BaseException] | None,
            exc: BaseException | None,
            traceback: TracebackType | None,
        ) -> Awaitable[None]:
            if exc_type is not None and issubclass(exc_type, asyncio.CancelledError):
                exc_type = asyncio.CancelledError
            return original(group, exc_type, exc, traceback)

        asyncio.TaskGroup.__aexit__ = exit_task_group  # type: ignore[method-assign]
