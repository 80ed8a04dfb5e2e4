"""A part of ``_interrupt.pyx``: the rules of ``_core/bytecode.py``, applied without running Python code."""

import opcode
import sys

from dramatiq_abort._core.bytecode import (
    ACQUIRE,
    CACHE,
    CALLS,
    DELIVERING,
    JUMPS,
    LOAD_SPECIAL,
    RETURNS,
    calls_before_try,
)


cdef bytes table(opcodes):
    """Return a byte per opcode that tells whether it is one of these; a lookup in it creates no object."""
    return bytes([each in opcodes for each in range(256)])


cdef int extended_arg = opcode.EXTENDED_ARG
cdef int cache = CACHE
cdef int load_special = LOAD_SPECIAL
cdef str acquire = sys.intern(ACQUIRE)
cdef bytes calls = table(CALLS)
cdef bytes delivering = table(DELIVERING)
cdef bytes jumps = table(JUMPS)
cdef bytes returns = table(RETURNS)

#: The results of ``calls_before_try``: by the code's id, the code, which keeps the id its own, and the offsets. Only
#: codes that name ``acquire`` are in here.
cdef dict learned = {}
#: The codes that an inspection has missed in there, by their ids.
cdef dict unlearned = {}
#: The size at which ``learned`` is cleared. Codes that are still in use are learned again.
cdef Py_ssize_t most_learned = 1000


cdef object learn():
    """Learn the codes that inspections have missed.

    This runs Python code, so it must not be called between an inspection and the action that relies on it.
    """
    while unlearned:
        _, code = unlearned.popitem()
        offsets = calls_before_try(code, in_loops=True)
        if len(learned) >= most_learned:
            learned.clear()
        learned[id(code)] = code, offsets


cdef Py_ssize_t instruction_at(bytes instructions, Py_ssize_t offset):
    """Return the offset of a frame's instruction, given the frame's own offset, which must not be negative."""
    while instructions[offset] == cache:
        offset -= 2
    while instructions[offset] == extended_arg:
        offset += 2
    return offset


cdef bint is_at_call(object frame):
    """Return whether the frame is at an instruction that calls a profile function before the slot is checked."""
    cdef Py_ssize_t offset = frame_offset(frame)
    if offset < 0:
        return False
    cdef bytes instructions = code_bytes(frame_code(frame))
    return calls[instructions[instruction_at(instructions, offset)]]


cdef Py_ssize_t jump_at(object frame):
    """Return the offset of the jump that the frame is at; -1 if it is not at a jump."""
    cdef Py_ssize_t offset = frame_offset(frame)
    if offset < 0:
        return -1
    cdef bytes instructions = code_bytes(frame_code(frame))
    offset = instruction_at(instructions, offset)
    return offset if jumps[instructions[offset]] else -1


cdef enum Place:
    #: The thread does not check its slot before the next instruction.
    GOES_ON
    #: It checks its slot, and an exception may be raised.
    DELIVERS
    #: It checks its slot after a call where no exception may be raised.
    HELD_BACK
    #: It checks its slot, and ``learn`` has to find out whether an exception may be raised.
    UNLEARNED


cdef Place place_of(object frame):
    """Return what the frame's thread does next; GOES_ON if ``frame`` is None, because no Python code runs."""
    cdef Py_ssize_t offset = frame_offset(frame)
    if offset < 0:
        return GOES_ON if frame is None else DELIVERS
    return place_at(frame_code(frame), offset)


cdef Place place_at(object code, Py_ssize_t offset):
    """Return the same for an offset in a code. The rules are those of ``bytecode.delivers``."""
    cdef bytes instructions = code_bytes(code)
    offset = instruction_at(instructions, offset)
    if not delivering[instructions[offset]]:
        return GOES_ON
    if not calls[instructions[offset]]:
        return DELIVERS
    if offset >= 2 and instructions[offset - 2] == load_special:
        return HELD_BACK
    cdef tuple names = code_names(code), known
    for name in names:
        if name is acquire:  # the names in a code object are interned
            known = learned.get(id(code))
            if known is None:
                unlearned[id(code)] = code
                return UNLEARNED
            return HELD_BACK if offset in known[1] else DELIVERS
    return DELIVERS


def _delivers(code, Py_ssize_t offset):
    """Return whether an exception may be raised there. A test compares this with ``bytecode.delivers``."""
    while place_at(code, offset) == UNLEARNED:
        learn()
    return place_at(code, offset) == DELIVERS


cdef bint is_returning(object frame):
    """Return whether the frame is returning a result, rather than raising."""
    cdef bytes instructions = code_bytes(frame_code(frame))
    return returns[instructions[frame_offset(frame)]]
