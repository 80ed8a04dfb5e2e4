"""``trio.run()`` in an ordinary actor: see ``_worker/loops.py``.

An exception that is raised in trio's own code ends the run as an internal error, and the thread cannot run trio again.
Therefore the main task is cancelled by trio instead: it sees ``trio.Cancelled``, and the function sees an ``Abort``
after the run.
"""

from __future__ import annotations

import functools
import sys
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar

from .loop_scopes import LoopScope
from .loops import message_here, run_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["wrap_run"]


class _Loop:
    """The part of an event loop's interface that a scope uses."""

    def __init__(self, token: Any) -> None:
        self.call_soon_threadsafe = token.run_sync_soon  # like a loop, it raises RuntimeError after the end of the run


class TrioScope(LoopScope):
    """The scope of a trio run's main task."""

    __slots__ = ("_cancel_scope",)

    library: ClassVar[str] = "trio"

    def __init__(self, thread: Any) -> None:
        super().__init__(thread)
        self._cancel_scope: Any = sys.modules["trio"].CancelScope()

    async def run_main(self, main: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> Any:
        """Await the main function in the cancel scope."""
        loop: Any = _Loop(sys.modules["trio"].lowlevel.current_trio_token())
        self._thread_id, self._loop = get_ident(), loop
        self._cancel()  # for an interrupt that arrived before
        with self._cancel_scope:
            return await main(*args)

    def has_come_out(self, error: BaseException | None) -> bool:
        """Return whether the run was cancelled, even if the task swallowed that: trio's cancellation is permanent."""
        return self.has_raised

    def is_in_a_loop(self) -> bool:
        """Return whether the caller is in the run, which is the only code on its thread."""
        return self.is_in_its_thread()

    def _cancel(self) -> None:
        if self._take() is not None:
            self._cancel_scope.cancel()


def wrap_run(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``trio.run``."""

    @functools.wraps(original)
    def run(async_fn: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        execution = message_here()
        if execution is None:
            return original(async_fn, *args, **options)
        scope = TrioScope(execution.scope)
        return run_for(execution, scope, lambda: original(scope.run_main, async_fn, args, **options))

    return run
