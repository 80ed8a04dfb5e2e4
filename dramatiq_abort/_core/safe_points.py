"""Where an exception may not be raised, because the code there would be left half done.

An exception between ``lock.acquire()`` and its ``try``, or at the entry of ``release()``, leaves a lock locked. Whoever
writes ``with lock:`` with a lock in C is safe: CPython looks at its slot neither between the lock's ``__enter__`` and
the block nor between the block and ``__exit__``. But where the lock is wrapped in Python, those are functions, and
CPython looks at every function's entry. So no exception is raised while one of these is on the stack, above the scope.
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
    """The functions that are made by this one."""
    return (constant for constant in function.__code__.co_consts if hasattr(constant, "co_code"))


#: What C code calls that drops an exception, at the very return, too: by name, and those of the weak references in the
#: standard library. The callbacks of others are not known.
CALLBACK_NAMES: Final = frozenset({"__del__", "unraisablehook"})
CALLBACKS: Final[list[CodeType]] = [
    *_inside(weakref.WeakSet.__init__),
    *_inside(weakref.WeakKeyDictionary.__init__),
    *_inside(weakref.WeakValueDictionary.__init__),
    *_inside(weakref.WeakMethod.__new__),
    weakref.finalize.__call__.__code__,
]


#: What the garbage collector calls, in whichever code it has its turn; it drops exceptions, too (invoke_gc_callback in
#: Python/gc.c). The list is CPython's own: who wants to be called, Hypothesis for one, puts a function in there.
COLLECTORS_CALLBACKS: Final[list[Any]] = getattr(gc, "callbacks", [])  # not on PyPy


def _offsets_of_wait() -> frozenset[int]:
    """Where Condition.wait waits: its calls of ``waiter.acquire``, but for the first, which only locks the new lock.

    Anywhere else in it the condition's own lock has been given up and is not to be taken back yet, or the waiter is
    still in the list of waiters.
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


#: Where a thread waits in protected code for as long as somebody else likes, and cleans up after itself: functions
#: with the offsets of the instructions at which the exception may be raised, when the function is the innermost. Event,
#: Semaphore, Barrier, Queue and Future all wait in Condition.wait. From 3.13 on Thread.join waits in C and holds
#: nothing; before, it takes a lock of the thread that it waits for.
WAITS: Final[dict[CodeType, frozenset[int]]] = {threading.Condition.wait.__code__: _offsets_of_wait()}
if sys.version_info >= (3, 13):
    WAITS[threading.Thread.join.__code__] = frozenset(range(0, len(threading.Thread.join.__code__.co_code), 2))

#: Waits until the new thread runs, which up to 3.11 has the ident of the one that starts it until then.
START_OF_THREAD: Final = threading.Thread.start.__code__


def landing() -> None:
    """Do nothing: a place for the exceptions that come too late for their scope."""


_protected: set[str] = set(PROTECTED_MODULES)

#: Those of them that users have added, and event loops, in which a wait is anybody's: see is_handed_over.
_users: set[str] = {"asyncio", "dramatiq_abort._worker.loops", "trio"}

#: Functions by their modules, each with those that it may be cut in when it calls them.
_named: dict[str, dict[str, frozenset[str]]] = {
    module: {name: CUT_IN.get((module, name), frozenset()) for name in names} for module, names in PROTECTED_IN.items()
}


def protect(module: str) -> None:
    """Raise nothing in the code of this module, or of this package's modules, from now on."""
    _protected.add(module)
    _users.add(module)


def protect_function(module: str, name: str, cut_in: frozenset[str] = frozenset()) -> None:
    """Raise nothing in this function of this module from now on, nor in what it calls, but for these."""
    _named.setdefault(module, {})[name] = cut_in


def is_protected(module: str) -> bool:
    """Say whether a module, or the package it is in, is protected."""
    return _is_among(_protected, module)


def may_be_cut(frames: Iterable[FrameType]) -> bool:
    """Say whether functions that are at work, from the innermost on, may be left as they are."""
    return not any(must_stay(frame, called) for frame, called in _with_called(frames))


def must_stay(frame: FrameType, called: str | None) -> bool:
    """Say whether a function that is at work, and has called that one or none, must not be left half done."""
    return (
        frame.f_code.co_name in PROTECTED_FUNCTIONS
        or _is_collectors_callback(frame.f_code)
        or is_protected(str(frame.f_globals.get("__name__")))
        or _is_named(frame, called)
    )


def _with_called(frames: Iterable[FrameType]) -> Iterator[tuple[FrameType, str | None]]:
    """Pair each function that is at work with the name of the one that it has called."""
    called = None
    for frame in frames:
        yield frame, called
        called = frame.f_code.co_name


def _is_named(frame: FrameType, called: str | None) -> bool:
    """Say whether a function is protected by its own and its module's name, in this call of another, or in none."""
    cut_in = _named.get(str(frame.f_globals.get("__name__")), {}).get(frame.f_code.co_name)
    return cut_in is not None and (called is None or cut_in.isdisjoint({called, ANY}))


def _is_collectors_callback(code: CodeType) -> bool:
    for callback in COLLECTORS_CALLBACKS:
        function = callback.__func__ if type(callback) is MethodType else callback
        if type(function) is FunctionType and function.__code__ is code:
            return True
    return False


def is_handed_over(frames: Iterable[FrameType]) -> bool:
    """Say whether what functions wait for, from the innermost on, would be lost with the wait.

    A thread that has been started, what a context manager or a function of ``PROTECTED_IN`` is about to take, and what
    nobody can know of the modules that users have added. What a callback of an event loop waits for, the loop would
    drop with the exception.
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
