"""Functions for cooperative tasks: checkpoints, an abortable sleep, and shields."""

from __future__ import annotations

import time
from contextlib import nullcontext
from threading import Event
from typing import TYPE_CHECKING

from .._protocol.request import milliseconds
from .current import current_execution

if TYPE_CHECKING:
    from .._core.shield import AnyShield

__all__ = ["checkpoint", "refuse_in_a_loop", "shield", "sleep"]


def checkpoint() -> None:
    """Raise ``Abort`` if the current message is to stop now.

    Call it where stopping is safe. On PyPy, where ``Abort`` cannot be raised from another thread, a message must call
    it, or ``sleep()``, to be stopped while it runs. ``Abort`` is raised once, here or elsewhere in the function, unless
    ``repeat_every`` says otherwise; in a thread or task started by the function, it is raised on each call. Inside a
    shield, it is raised at the end of the shield instead. Outside an abortable message, the call does nothing.

    Raises:
      Abort: If there is an abort request for the message, and its grace period is over.
    """
    execution = current_execution()
    if execution is not None:
        execution.check()


def sleep(duration: int) -> None:
    """Sleep, and raise ``Abort`` at once when the current message is to stop.

    Unlike ``time.sleep()``, it is interrupted at once on every interpreter. ``Abort`` is raised by the rules of
    ``checkpoint()``. Outside an abortable message, this is the same as ``time.sleep()``. In a coroutine, use ``await
    asyncio.sleep()`` or ``await trio.sleep()``, which an abort ends, too.

    Parameters:
      duration: How many milliseconds to sleep.

    Raises:
      Abort: As soon as there is an abort request for the message, and its grace period is over.
      TypeError: If the duration is not an int.
      ValueError: If it is negative or too long.
      RuntimeError: If called in a coroutine, where it would block the event loop.
    """
    milliseconds("duration", duration, at_least=0)
    execution = current_execution()
    if execution is None:
        time.sleep(duration / 1000)
        return
    refuse_in_a_loop("sleep()", asyncio="asyncio.sleep()", trio="trio.sleep()")
    until = time.monotonic() + duration / 1000
    woken = Event()
    with execution.bell(woken.set):
        while (left := until - time.monotonic()) > 0:
            woken.clear()
            execution.check()
            woken.wait(left)
    execution.check()


def shield() -> AnyShield:
    """Return a context manager that keeps ``Abort`` from being raised inside it.

    ::

        with shield():
            account.withdraw(10)
            other.deposit(10)

    An abort that arrives meanwhile waits, and ``Abort`` is raised at the end of the outermost shield. Outside an
    abortable message, a shield does nothing.
    """
    execution = current_execution()
    return nullcontext() if execution is None else execution.shield()


def refuse_in_a_loop(caller: str, **instead: str) -> None:
    """Raise ``RuntimeError`` if called in an event loop, which the caller would block.

    Parameters:
      caller: The name of the calling function.
      instead: The call to await instead, by the library that runs the event loop.
    """
    execution = current_execution()
    library = None if execution is None else execution.library_of_loop_here()
    if library is not None:
        raise RuntimeError(f"{caller} would block the event loop: await {instead[library]}, which an abort ends, too")
