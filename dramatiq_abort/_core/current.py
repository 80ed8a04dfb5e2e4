"""The execution that this thread, greenlet or coroutine is running."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Current", "current", "here", "in_this_thread", "tables"]


class Current(Protocol):
    """The part of an execution that the exceptions and this module use; ``_worker/execution.py`` has the class."""

    @property
    def message_id(self) -> str:
        """The id of the message that is processed."""

    @property
    def request(self) -> Any:
        """The request to abort the message, or None."""

    @property
    def thread_id(self) -> int:
        """The id of the thread, or greenlet, that processes the message."""

    @property
    def outer(self) -> Current | None:
        """The execution inside which this one runs, if a broker processes what a task sends at once; else None."""

    def rearm(self) -> bool:
        """Allow the exception to be raised again after the last one was dropped; return whether it now can be."""


#: The execution that runs here, if it can be aborted. As a context variable it is also right in greenlets, in
#: coroutines and in threads that copy the context of the thread that starts them.
current: ContextVar[Any] = ContextVar("dramatiq_abort.current", default=None)

#: Functions that return the executions of this process: one for each broker with workers here.
tables: list[Callable[[], Iterable[Current]]] = []


def here() -> Current | None:
    """Return the execution that runs here, even if the current context does not know it; or None."""
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
