"""Where an exception may not be raised, because the code there would be left half done.

An exception between ``lock.acquire()`` and its ``try``, or at the entry of ``release()``, leaves a lock locked. Whoever
writes ``with lock:`` with a lock in C is safe: CPython looks at its slot neither between the lock's ``__enter__`` and
the block nor between the block and ``__exit__``. But where the lock is wrapped in Python, those are functions, and
CPython looks at every function's entry. So no exception is raised while one of these is on the stack, above the scope.
"""

from __future__ import annotations

import dis
import opcode
import sys
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import CodeType, FrameType

__all__ = [
    "CACHE",
    "CALLS",
    "DELIVERING",
    "JUMPS",
    "LOAD_SPECIAL",
    "PROTECTED_FUNCTIONS",
    "PROTECTED_MODULES",
    "RETURNS",
    "START_OF_THREAD",
    "WAITS",
    "delivers",
    "is_handed_over",
    "is_protected",
    "landing",
    "may_be_cut",
    "protect",
    "target_of_jump",
]

#: Modules with their reasons. A package stands for all its modules.
PROTECTED_MODULES: Final = {
    "_frozen_importlib": "the locks of modules: a module that is half imported stays in sys.modules",
    "_frozen_importlib_external": "the same",
    "_threading_local": "the lock of each local()",
    "_weakrefset": "the guard of iterations, which holds back removals",
    "bdb": "a debugger that somebody is using: its own books, and the answer to a question it has asked",
    "concurrent.futures": "the conditions of futures, the queues and counters of executors",
    "coverage": "the books of what has run, which monitoring calls keep from 3.12 on",
    "dramatiq.asyncio": "a coroutine that has been submitted and is not yet cancelled when its waiter is interrupted",
    "importlib": "see _frozen_importlib, which bears this name once it has been imported",
    "logging": "the module's lock and each handler's, before 3.13 with acquire() and release()",
    "multiprocessing": "locks, semaphores and conditions around pipes, which are half written otherwise",
    "pdb": "see bdb",
    "queue": "Python's conditions around one mutex",
    "threading": "Python's __enter__ and __exit__ around every lock but Lock and RLock",
    "warnings": "the lock around the filters, from 3.14 on",
    "weakref": "see _weakrefset",
}

#: Functions that are never left half done, whoever wrote them: they are where everybody puts what must happen, or what
#: takes that which must be given back. With them context managers are safe, those of contextlib included.
PROTECTED_FUNCTIONS: Final = frozenset({"__enter__", "__exit__", "__del__"})


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

_JUMPS: Final = ("JUMP_BACKWARD", "JUMP_ABSOLUTE", "POP_JUMP")


def _opcodes(prefixes: tuple[str, ...]) -> frozenset[int]:
    return frozenset(
        code
        for name, code in opcode.opmap.items()
        if name.startswith(prefixes) and not name.startswith("CALL_INTRINSIC") and code < 256
    )


#: The instructions at which CPython looks at its slot before it goes on to another one (Python/bytecodes.c,
#: CHECK_PERIODIC; CHECK_EVAL_BREAKER in Python/ceval.c before 3.13). From any other, such as a for loop's step, a
#: thread can get into a function that must not be cut before it looks.
DELIVERING: Final = _opcodes(("CALL", "PRECALL", "RESUME", *_JUMPS))

#: Those of them behind which a profile function is called before the slot is looked at.
CALLS: Final = _opcodes(("CALL", "PRECALL"))

#: Those of them that can belong to a loop without a single call.
JUMPS: Final = _opcodes(_JUMPS)

#: Where a function ends with a result.
RETURNS: Final = _opcodes(("RETURN_VALUE", "RETURN_CONST"))

#: Right behind this one, from 3.14 on, stands the call of a context manager's __enter__. There CPython looks at its
#: slot when the lock has been taken and the with block has not begun.
LOAD_SPECIAL: Final = opcode.opmap.get("LOAD_SPECIAL", -1)

#: What stands behind an instruction that keeps notes for the interpreter; a thread that has called a function from
#: there stands behind it. -1 before 3.11.
CACHE: Final = opcode.opmap.get("CACHE", 0 if sys.version_info >= (3, 11) else -1)


def delivers(code: bytes, offset: int) -> bool:
    """Say whether a thread that stands at this instruction looks at its slot before the next, and may do so."""
    if offset < 0:
        return True
    while code[offset] == CACHE:
        offset -= 2
    while code[offset] == opcode.EXTENDED_ARG:
        offset += 2
    return code[offset] in DELIVERING and (offset < 2 or code[offset - 2] != LOAD_SPECIAL)


def target_of_jump(code: CodeType, offset: int) -> int:
    """Where the jump at this offset leads to."""
    return next(int(jump.argval) for jump in dis.get_instructions(code) if jump.offset == offset)


def landing() -> None:
    """Do nothing: a place for the exceptions that come too late for their scope."""


_protected: set[str] = set(PROTECTED_MODULES)

#: Those of them that users have added: see is_handed_over.
_users: set[str] = set()


def protect(module: str) -> None:
    """Raise nothing in the code of this module, or of this package's modules, from now on."""
    _protected.add(module)
    _users.add(module)


def is_protected(module: str) -> bool:
    """Say whether a module, or the package it is in, is protected."""
    return _is_among(_protected, module)


def may_be_cut(frame: FrameType) -> bool:
    """Say whether a function that is at work may be left as it is."""
    return not (
        frame.f_code is START_OF_THREAD
        or frame.f_code.co_name in PROTECTED_FUNCTIONS
        or is_protected(str(frame.f_globals.get("__name__")))
    )


def is_handed_over(frame: FrameType) -> bool:
    """Say whether what a function waits for, itself or in what it calls, would be lost with the wait.

    A thread that has been started, what a context manager is about to take, and what nobody can know of the modules
    that users have added.
    """
    return (
        frame.f_code is START_OF_THREAD
        or frame.f_code.co_name in PROTECTED_FUNCTIONS
        or _is_among(_users, str(frame.f_globals.get("__name__")))
    )


def _is_among(modules: set[str], module: str) -> bool:
    while module not in modules:
        module, dot, _ = module.rpartition(".")
        if not dot:
            return False
    return True
