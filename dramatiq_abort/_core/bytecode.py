"""Rules about single instructions: where a thread checks its slot, and where an exception would lose a lock.

A thread that waits in ``lock.acquire()``, before a ``try`` whose ``finally`` releases the lock, checks its slot right
after the call. An exception raised there would leave the lock locked. So this does not count as a place where an
exception may be raised: it is raised inside the statement instead.
"""

from __future__ import annotations

import dis
import enum
import opcode
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, FrameType

__all__ = [
    "ACQUIRE",
    "CACHE",
    "CALLS",
    "DELIVERING",
    "JUMPS",
    "LOAD_SPECIAL",
    "RETURNS",
    "calls_before_try",
    "delivers",
    "leads_to_delivery",
]

_JUMPS: Final = ("JUMP_BACKWARD", "JUMP_ABSOLUTE", "POP_JUMP")


def _opcodes(prefixes: tuple[str, ...]) -> frozenset[int]:
    return frozenset(
        code
        for name, code in opcode.opmap.items()
        if name.startswith(prefixes) and not name.startswith("CALL_INTRINSIC") and code < 256
    )


#: The instructions at which CPython checks the slot before it goes on to another one (CHECK_PERIODIC in
#: Python/bytecodes.c; before 3.13 CHECK_EVAL_BREAKER in Python/ceval.c). From any other instruction, such as a for
#: loop's step, a thread can get into a protected function before it checks.
DELIVERING: Final = _opcodes(("CALL", "PRECALL", "RESUME", *_JUMPS))

#: Those of them after which a profile function is called before the slot is checked.
CALLS: Final = _opcodes(("CALL", "PRECALL"))

#: Those of them that can belong to a loop without any call.
JUMPS: Final = _opcodes(_JUMPS)

#: The instructions that return a result.
RETURNS: Final = _opcodes(("RETURN_VALUE", "RETURN_CONST"))

#: From 3.14 on, this instruction is followed by the call of a context manager's __enter__. After that call CPython
#: checks the slot when the lock has been taken and the with block has not begun.
LOAD_SPECIAL: Final = opcode.opmap.get("LOAD_SPECIAL", -1)

#: The inline cache after an instruction; a thread that has called a function from the instruction stands at its cache.
#: -1 before 3.11.
CACHE: Final = opcode.opmap.get("CACHE", 0 if sys.version_info >= (3, 11) else -1)

#: The method that acquires what a try statement after the call releases.
ACQUIRE: Final = "acquire"

#: The instructions that load a method.
_METHODS: Final = _opcodes(("LOAD_ATTR", "LOAD_METHOD"))

#: The instructions that may stand between a call and the try statement after it, because the slot is not checked there:
#: the call's result is dropped, stored or tested.
_ENDINGS: Final = _opcodes(("POP_TOP", "STORE_"))
_TESTS: Final = _opcodes(("POP_JUMP_IF", "POP_JUMP_FORWARD_IF"))
_PASSING: Final = (
    _ENDINGS
    | _TESTS
    | _opcodes(("CACHE", "EXTENDED_ARG", "NOP", "NOT_TAKEN", "TO_BOOL", "POP_JUMP_BACKWARD_IF", "COPY", "DUP_TOP"))
    | _opcodes(("LOAD_FAST", "LOAD_NAME", "LOAD_GLOBAL", "LOAD_DEREF", "LOAD_CONST", "LOAD_SMALL_INT", "IS_OP"))
)

#: The beginning of a with statement, at which the slot is not checked: ``with pool.acquire() as connection``.
_WITH: Final = _opcodes(("BEFORE_WITH", "LOAD_SPECIAL", "SETUP_WITH"))

#: The beginning of a try statement on 3.10; later versions have a table (co_exceptiontable).
_SETUP_FINALLY: Final = opcode.opmap.get("SETUP_FINALLY", -1) if sys.version_info < (3, 11) else -1


def delivers(code: CodeType, offset: int) -> bool:
    """Return whether a thread at this instruction checks its slot before the next one, and may raise there."""
    if offset < 0:
        return True
    offset, instructions = _instruction_at(code, offset), code.co_code
    if instructions[offset] not in DELIVERING or (offset >= 2 and instructions[offset - 2] == LOAD_SPECIAL):
        return False
    return ACQUIRE not in code.co_names or offset not in calls_before_try(code, in_loops=False)


def _instruction_at(code: CodeType, offset: int) -> int:
    """Return the offset of a frame's instruction, given the frame's own offset, which must not be negative."""
    instructions = code.co_code
    while instructions[offset] == CACHE:
        offset -= 2
    while instructions[offset] == opcode.EXTENDED_ARG:
        offset += 2
    return offset


@lru_cache(maxsize=1000)
def calls_before_try(code: CodeType, *, in_loops: bool) -> frozenset[int]:
    """Return the offsets of the calls of ``acquire`` that are directly followed by a try or with statement.

    Parameters:
      in_loops: Whether to include calls that a loop repeats until the lock is taken. The pure-Python core does not
        include them: it would find the thread nowhere else.
    """
    instructions = [*dis.get_instructions(code)]
    if sys.version_info >= (3, 11):
        begins = {entry.start for entry in dis.Bytecode(code).exception_entries}
    else:
        begins = {each.offset for each in instructions if each.opcode == _SETUP_FINALLY}
    loops = [range(each.argval, each.offset) for each in instructions if each.opcode in JUMPS]
    calls: set[int] = set()
    is_acquire = False
    for number, each in enumerate(instructions):
        if each.opcode in _METHODS and each.argval == ACQUIRE:
            is_acquire = True
        elif each.opcode in _ENDINGS:
            is_acquire = False
        elif is_acquire and each.opcode in CALLS:
            following = instructions[number + 1 + (each.opname == "PRECALL") :]  # on 3.11 a call is two instructions
            is_repeated = any(each.offset in loop for loop in loops)
            if _leads_to_try(following, begins, may_jump=in_loops or not is_repeated):
                calls.add(each.offset)
    return frozenset(calls)


def _leads_to_try(instructions: list[dis.Instruction], begins: set[int], *, may_jump: bool) -> bool:
    for number, each in enumerate(instructions):
        if each.offset in begins or each.opcode in _WITH:
            return True
        if each.opcode not in _PASSING or (each.opcode in JUMPS and not may_jump):
            return False
        if each.opcode in _TESTS:
            targets = [at for at, other in enumerate(instructions) if other.offset == each.argval and at > number]
            if targets and _leads_to_try(instructions[targets[0] :], begins, may_jump=may_jump):
                return True
    return False


#: The instructions that lead back into the caller's code, and those that lead into other code, such as a context
#: manager's or a module's.
_LEAVING: Final = _opcodes(("RETURN_", "YIELD_"))
_ENTERING: Final = _opcodes(
    ("BEFORE_", "IMPORT_", "RAISE_", "RERAISE", "SEND", "SETUP_WITH", "SETUP_ASYNC_WITH", "WITH_")
)


def leads_to_delivery(frames: Iterable[FrameType]) -> bool:
    """Return whether a thread that is not at a check is certain to check its slot before it enters another function.

    This holds whichever way the thread takes, so an exception in its slot is raised where ``delivers`` allows it. Used
    before 3.12.

    Parameters:
      frames: The thread's frames, innermost first, up to the scope's own, where nothing is raised any more.
    """
    is_innermost = True
    for frame in frames:
        code, offset = frame.f_code, _instruction_at(frame.f_code, max(0, frame.f_lasti))
        if code.co_code[offset] in DELIVERING and (is_innermost or not delivers(code, offset)):
            return False
        is_innermost = False
        ways = _ways_to_delivery(code, offset)
        if ways is not _Ways.LEAVE:
            return ways is _Ways.DELIVER
    return True


class _Ways(enum.Enum):
    """Where all paths from an instruction lead to."""

    DELIVER = enum.auto()
    """All lead to a check at which an exception may be raised."""
    LEAVE = enum.auto()
    """All lead to a check or out of the function."""
    ENTER = enum.auto()
    """Some lead into another function."""


@lru_cache(maxsize=1000)
def _ways_to_delivery(code: CodeType, offset: int) -> _Ways:
    instructions = [*dis.get_instructions(code)]
    at = {each.offset: number for number, each in enumerate(instructions)}
    left, seen = _following(instructions, at, at[offset]), set[int]()
    ways = _Ways.ENTER  # if no path ends
    while left:
        number = left.pop()
        if number in seen:
            continue
        seen.add(number)
        each = instructions[number]
        if each.opcode in _LEAVING:
            ways = _Ways.LEAVE
        elif each.opcode in _ENTERING:
            return _Ways.ENTER
        elif not _checks(instructions, at, each):
            left += _following(instructions, at, number)
        elif not delivers(code, each.offset):
            return _Ways.ENTER
        elif ways is _Ways.ENTER:
            ways = _Ways.DELIVER
    return ways


def _following(instructions: list[dis.Instruction], at: dict[int, int], number: int) -> list[int]:
    """Return the numbers of the instructions that may come next without a check of the slot in between."""
    each = instructions[number]
    if each.opname in {"JUMP_ABSOLUTE", "JUMP_FORWARD", "JUMP_BACKWARD_NO_INTERRUPT"}:
        return [at[each.argval]]
    if each.opname.startswith(("POP_JUMP_IF", "POP_JUMP_BACKWARD_IF")):  # the slot is checked if it jumps
        return [number + 1]
    if each.opcode in {*dis.hasjrel, *dis.hasjabs} and each.opcode != _SETUP_FINALLY:
        return [number + 1, at[each.argval]]
    return [number + 1]


def _checks(instructions: list[dis.Instruction], at: dict[int, int], each: dis.Instruction) -> bool:
    """Return whether the slot is checked at this instruction, whichever way the thread goes on."""
    if each.opcode not in DELIVERING or each.opname.startswith(("POP_JUMP", "JUMP_BACKWARD_NO_INTERRUPT")):
        return False
    # 3.10 does not check the slot at a jump to a try statement (Python/ceval.c).
    return each.opname != "JUMP_ABSOLUTE" or instructions[at[each.argval]].opcode != _SETUP_FINALLY
