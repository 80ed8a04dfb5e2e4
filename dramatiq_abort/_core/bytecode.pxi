"""A part of ``_interrupt.pyx``: what ``_core/bytecode.py`` says, asked without running any Python code."""

import opcode
import sys

from dramatiq_abort._core.bytecode import (
    ACQUIRE,
    CACHE,
    CALLS,
    DELIVERING,
    ENDINGS,
    JUMPS,
    LOAD_SPECIAL,
    METHODS,
    PASSING,
    RETURNS,
    SETUP_FINALLY,
    TESTS,
)


cdef bytes table(opcodes):
    """Return of each instruction whether it is one of these: to look there makes no object."""
    return bytes([each in opcodes for each in range(256)])


cdef int extended_arg = opcode.EXTENDED_ARG
cdef int cache = CACHE
cdef int load_special = LOAD_SPECIAL
cdef int precall = opcode.opmap.get("PRECALL", -1)
cdef int setup_finally = SETUP_FINALLY
cdef bint jumps_are_absolute = sys.version_info < (3, 11)
cdef str acquire = sys.intern(ACQUIRE)
#: How far to the left the index of a method's name is shifted.
cdef int name_shift = sys.version_info >= (3, 12)
cdef bytes calls = table(CALLS)
cdef bytes delivering = table(DELIVERING)
cdef bytes endings = table(ENDINGS)
cdef bytes jumps = table(JUMPS)
cdef bytes methods = table(METHODS)
cdef bytes passing = table(PASSING)
cdef bytes returns = table(RETURNS)
cdef bytes tests = table(TESTS)


cdef Py_ssize_t instruction_at(bytes instructions, Py_ssize_t offset):
    """The offset of the instruction that a frame is at, by the offset that it gives, which is not negative."""
    while instructions[offset] == cache:
        offset -= 2
    while instructions[offset] == extended_arg:
        offset += 2
    return offset


cdef bint is_at_call(object frame):
    """Say whether the frame's thread is where a profile function is called before the slot is looked at."""
    cdef Py_ssize_t offset = frame_offset(frame)
    if offset < 0:
        return False
    cdef bytes instructions = code_bytes(frame_code(frame))
    return calls[instructions[instruction_at(instructions, offset)]]


cdef Py_ssize_t jump_at(object frame):
    """If the frame is at a jump: its offset; else -1."""
    cdef Py_ssize_t offset = frame_offset(frame)
    if offset < 0:
        return -1
    cdef bytes instructions = code_bytes(frame_code(frame))
    offset = instruction_at(instructions, offset)
    return offset if jumps[instructions[offset]] else -1


cdef bint delivers(object frame):
    """As ``_bytecode.delivers``; False for None, which stands for no frame."""
    cdef Py_ssize_t offset = frame_offset(frame)
    if offset < 0:
        return frame is not None
    cdef object code = frame_code(frame)
    cdef bytes instructions = code_bytes(code)
    offset = instruction_at(instructions, offset)
    if not delivering[instructions[offset]] or offset >= 2 and instructions[offset - 2] == load_special:
        return False
    cdef tuple names = code_names(code)
    for name in names:
        if name is acquire:  # the names in a code are interned
            return not is_call_before_try(code, names, instructions, offset)
    return True


cdef bint is_call_before_try(object code, tuple names, bytes instructions, Py_ssize_t call):
    """Say whether the instruction is a call of ``acquire`` that a try statement follows at once."""
    if not calls[instructions[call]]:
        return False
    cdef Py_ssize_t offset
    cdef int instruction, argument = 0
    cdef bint is_acquire = False
    for offset in range(0, call, 2):
        instruction = instructions[offset]
        argument = argument << 8 | instructions[offset + 1]
        if instruction == extended_arg:
            continue
        if methods[instruction] and names[argument >> name_shift] is acquire:
            is_acquire = True
        elif endings[instruction]:
            is_acquire = False
        argument = 0
    if not is_acquire:
        return False
    offset = call + 2
    if instructions[call] == precall:  # on 3.11 two instructions are one call
        while instructions[offset] == cache:
            offset += 2
        offset += 2
    return leads_to_try(code, instructions, offset)


cdef bint leads_to_try(object code, bytes instructions, Py_ssize_t offset):
    """Say whether nothing stands between this offset and a try statement but what may."""
    cdef Py_ssize_t target
    cdef int instruction, argument = 0
    while offset < len(instructions):
        if instructions[offset] == setup_finally or begins_try(code, offset):
            return True
        instruction = instructions[offset]
        if not passing[instruction]:
            return False
        argument = argument << 8 | instructions[offset + 1]
        offset += 2
        if tests[instruction]:
            target = 2 * argument
            if not jumps_are_absolute:
                target += offset
                while instructions[target - 2 * argument] == cache:
                    target += 2
            if target >= offset and leads_to_try(code, instructions, target):
                return True
        if instruction != extended_arg:
            argument = 0
    return False


cdef bint is_returning(object frame):
    """Say whether the frame ends with a result, and not with an exception."""
    cdef bytes instructions = code_bytes(frame_code(frame))
    return returns[instructions[frame_offset(frame)]]
