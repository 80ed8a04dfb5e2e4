"""Safe points: where an exception may be raised without leaving code half done that must run as a whole.

An exception between ``lock.acquire()`` and its ``try``, or at the entry of ``release()``, leaves a lock locked. A
``with`` block of a lock in C is safe: CPython checks the slot neither between the lock's ``__enter__`` and the block
nor between the block and ``__exit__``. But if the lock is wrapped in Python code, these are functions, and CPython
checks the slot at the entry of every function. So no exception is raised while one of these is on the stack, above the
scope.
"""

from __future__ import annotations

import dis
import gc
import sys
import threading
import weakref
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

from .protected_code import ANY, CUT_IN, PROTECTED_FUNCTIONS, PROTECTED_IN, PROTECTED_MODULES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import CodeType, FrameType

__all__ = [
    "CALLBACKS",
    "CALLBACK_NAMES",
    "COLLECTORS_CALLBACKS",
    "START_OF_THREAD",
    "WAITS",
    "is_handed_over",
    "is_protected",
    "landing",
    "may_be_cut",
    "must_stay",
    "protect",
    "protect_function",
]


def _inside(function: Any) -> Iterator[CodeType]:
    """Return the codes of the functions that this function creates."""
    return (constant for constant in function.__code__.co_consts if hasattr(constant, "co_code"))


#: Functions called by C code that drops an exception, even one that is raised at their return: by name, and the
#: callbacks of weak references in the standard library. Those of other libraries are not known.
CALLBACK_NAMES: Final = frozenset({"__del__", "unraisablehook"})
CALLBACKS: Final[list[CodeType]] = [
    *_inside(weakref.WeakSet.__init__),
    *_inside(weakref.WeakKeyDictionary.__init__),
    *_inside(weakref.WeakValueDictionary.__init__),
    *_inside(weakref.WeakMethod.__new__),
    weakref.finalize.__call__.__code__,
]


#: Functions that the garbage collector calls, in whatever code it runs; it drops exceptions, too (invoke_gc_callback in
#: Python/gc.c). This is CPython's own list, to which other code, such as Hypothesis, appends.
COLLECTORS_CALLBACKS: Final[list[Any]] = getattr(gc, "callbacks", [])  # not on PyPy


def _offsets_of_wait() -> frozenset[int]:
    """Return the offsets at which Condition.wait waits: its calls of ``waiter.acquire``, except the first.

    The first call only locks the new lock. Anywhere else in the function, the condition's own lock has been released
    and not taken back yet, or the waiter is still in the list of waiters.
    """
    calls: list[set[int]] = []
    is_call = False
    for instruction in dis.get_instructions(threading.Condition.wait):
        if instruction.opname.startswith("LOAD_") and instruction.argval == "acquire":
            calls.append(set())
            is_call = True
        elif is_call and instruction.opname.startswith(("CALL", "PRECALL")):
            calls[-1].add(instruction.offset)
            is_call = not instruction.opname.startswith("CALL")
    return frozenset().union(*calls[1:])


#: Waits in protected code that clean up after themselves, and may last for any time: functions with the offsets of the
#: instructions at which the exception may be raised, if the function is the innermost one. Event, Semaphore, Barrier,
#: Queue and Future all wait in Condition.wait. From 3.13 on Thread.join waits in C and holds nothing; before, it takes
#: a lock of the thread that it waits for.
WAITS: Final[dict[CodeType, frozenset[int]]] = {threading.Condition.wait.__code__: _offsets_of_wait()}
if sys.version_info >= (3, 13):
    WAITS[threading.Thread.join.__code__] = frozenset(range(0, len(threading.Thread.join.__code__.co_code), 2))

#: Waits until the new thread runs. Until then, up to 3.11, the new thread has the ident of the thread that starts it.
START_OF_THREAD: Final = threading.Thread.start.__code__


def landing() -> None:
    """Do nothing: a function in which exceptions are raised that come too late for their scope."""


#: The protected modules.
_protected: set[str] = set(PROTECTED_MODULES)

#: Those of them whose waits are not safe points: modules added by users, and event loops. See is_handed_over.
_users: set[str] = {"asyncio", "dramatiq_abort._worker.loops", "trio"}

#: Protected functions by module and name, each with the names of the functions during whose call it may be aborted.
_named: dict[str, dict[str, frozenset[str]]] = {
    module: {name: CUT_IN.get((module, name), frozenset()) for name in names} for module, names in PROTECTED_IN.items()
}


def protect(module: str) -> None:
    """Protect this module, or all modules of this package, from now on."""
    _protected.add(module)
    _users.add(module)


def protect_function(module: str, name: str, cut_in: frozenset[str] = frozenset()) -> None:
    """Protect this function of this module, and everything that it calls, from now on.

    Parameters:
      cut_in: The names of the functions during whose call it may be aborted all the same.
    """
    _named.setdefault(module, {})[name] = cut_in


def is_protected(module: str) -> bool:
    """Return whether a module, or a package it is in, is protected."""
    return _is_among(_protected, module)


def may_be_cut(frames: Iterable[FrameType]) -> bool:
    """Return whether none of these frames, innermost first, runs protected code."""
    return not any(must_stay(frame, called) for frame, called in _with_called(frames))


def must_stay(frame: FrameType, called: str | None) -> bool:
    """Return whether a frame runs protected code.

    Parameters:
      called: The name of the function that the frame has called, or None.
    """
    return (
        frame.f_code.co_name in PROTECTED_FUNCTIONS
        or _is_collectors_callback(frame.f_code)
        or is_protected(str(frame.f_globals.get("__name__")))
        or _is_named(frame, called)
    )


def _with_called(frames: Iterable[FrameType]) -> Iterator[tuple[FrameType, str | None]]:
    """Pair each frame with the name of the function that it has called; None for the innermost frame."""
    called = None
    for frame in frames:
        yield frame, called
        called = frame.f_code.co_name


def _is_named(frame: FrameType, called: str | None) -> bool:
    """Return whether a function is protected by its own and its module's name, while it calls that function or none."""
    cut_in = _named.get(str(frame.f_globals.get("__name__")), {}).get(frame.f_code.co_name)
    return cut_in is not None and (called is None or cut_in.isdisjoint({called, ANY}))


def _is_collectors_callback(code: CodeType) -> bool:
    for callback in COLLECTORS_CALLBACKS:
        function = callback.__func__ if type(callback) is MethodType else callback
        if type(function) is FunctionType and function.__code__ is code:
            return True
    return False


def is_handed_over(frames: Iterable[FrameType]) -> bool:
    """Return whether an exception raised in a wait would lose what the wait is for. The frames are innermost first.

    This is the case for a thread that is being started, and for anything that a context manager or a function of
    ``PROTECTED_IN`` is about to acquire. It may be the case in modules that users have added. And if a callback of an
    event loop waits, the loop would drop the exception.
    """
    return any(
        frame.f_code is START_OF_THREAD
        or frame.f_code.co_name in PROTECTED_FUNCTIONS
        or _is_among(_users, str(frame.f_globals.get("__name__")))
        or _is_named(frame, called)
        for frame, called in _with_called(frames)
    )


def _is_among(modules: set[str], module: str) -> bool:
    while module not in modules:
        module, dot, _ = module.rpartition(".")
        if not dot:
            return False
    return True
