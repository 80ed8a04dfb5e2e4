"""For functions that look after themselves: places to stop at, a sleep that ends there, and where not to stop."""

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
    """Raise ``Abort`` if the message that is being processed here is to stop now.

    Behind a shield, it is raised at the shield's end. It is raised once, here or elsewhere in the function, unless
    ``repeat_every`` says otherwise; in a thread or a task that the function has started, each time. Outside of a
    message that can be aborted, this does nothing.

    Raises:
      Abort: When somebody has asked to abort the message, and its grace period is over.
    """
    execution = current_execution()
    if execution is not None:
        execution.check()


def sleep(duration: int) -> None:
    """Sleep for a time, and wake at once with ``Abort`` when the message that is being processed here is to stop.

    Whatever the interpreter; by the rules of ``checkpoint()``. Outside of a message that can be aborted, this is
    ``time.sleep``. A coroutine awaits ``asyncio.sleep`` or ``trio.sleep``, which do the same.

    Parameters:
      duration: In milliseconds.

    Raises:
      Abort: As soon as somebody has asked to abort the message, and its grace period is over.
      TypeError: When the duration is no integer.
      ValueError: When it is negative or too long.
      RuntimeError: When it is called in a coroutine, whose event loop it would hold up.
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
    """Protect a part of an actor's function from being aborted half way.

    ::

        with shield():
            account.withdraw(10)
            other.deposit(10)

    An abort that comes meanwhile waits, and is raised on the way out of the outermost shield. Outside of a message
    that can be aborted, a shield does nothing.
    """
    execution = current_execution()
    return nullcontext() if execution is None else execution.shield()


def refuse_in_a_loop(what: str, **instead: str) -> None:
    """Raise what ``what`` raises in an event loop, which it would hold up.

    Parameters:
      instead: What to await, by the library whose loop it is.
    """
    execution = current_execution()
    library = None if execution is None else execution.library_of_loop_here()
    if library is not None:
        raise RuntimeError(f"{what} would hold up the event loop: await {instead[library]}, which an abort ends, too")
