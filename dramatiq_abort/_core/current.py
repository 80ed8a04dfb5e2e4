"""What this thread, greenlet or coroutine is running."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Current", "current", "here", "in_this_thread", "tables"]


class Current(Protocol):
    """What the exceptions and this module know of an execution: ``_worker/execution.py`` has the class."""

    @property
    def message_id(self) -> str:
        """The message that is processed."""

    @property
    def request(self) -> Any:
        """The request to abort it, or None."""

    @property
    def thread_id(self) -> int:
        """The thread, or greenlet, that processes it."""

    @property
    def outer(self) -> Current | None:
        """The execution during which this one takes place, as with a broker that runs what it is sent at once."""

    def rearm(self) -> bool:
        """Let the exception be raised again, after the last one was dropped."""


#: The execution that takes place here, if it can be aborted. A context variable, so that it is right in greenlets, in
#: coroutines and in the threads that copy their starter's context, too.
current: ContextVar[Any] = ContextVar("dramatiq_abort.current", default=None)

#: Return the executions of this process: one for each broker that has workers here.
tables: list[Callable[[], Iterable[Current]]] = []


def here() -> Current | None:
    """Return the execution that takes place here, also in a context that knows nothing of it."""
    execution: Current | None = current.get()
    return in_this_thread() if execution is None else execution


def in_this_thread() -> Any:
    """Return the innermost execution of this thread, or greenlet, or None."""
    if not tables:
        return None
    ident = threading.get_ident()
    executions = [each for table in tables for each in table() if each.thread_id == ident]
    outers = [each.outer for each in executions]
    return next((each for each in executions if each not in outers), None)
