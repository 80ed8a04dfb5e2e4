"""A part of ``_interrupt.pyx``: what ``_core/bytecode.py`` says, asked without running any Python code."""

import opcode
import sys

from dramatiq_abort._core.bytecode import ACQUIRE, CACHE, CALLS, DELIVERING, JUMPS, LOAD_SPECIAL, RETURNS, calls_before_try


cdef bytes table(opcodes):
    """Return of each instruction whether it is one of these: to look there makes no object."""
    return bytes([each in opcodes for each in range(256)])


cdef int extended_arg = opcode.EXTENDED_ARG
cdef int cache = CACHE
cdef int load_special = LOAD_SPECIAL
cdef str acquire = sys.intern(ACQUIRE)
cdef bytes calls = table(CALLS)
cdef bytes delivering = table(DELIVERING)
cdef bytes jumps = table(JUMPS)
cdef bytes returns = table(RETURNS)

#: The offsets that ``calls_before_try`` has returned for a code, by the code's id, together with the code, so that the
#: id stays its own. Only codes that name ``acquire`` get here.
cdef dict learned = {}
#: Those that a look has not found there, by their ids.
cdef dict unlearned = {}
#: So many are kept; then all are dropped, and learned again at need.
cdef Py_ssize_t most_learned = 1000


cdef object learn():
    """Fill in what looks have not found. Runs Python code, so not from a look on to what follows from it."""
    while unlearned:
        _, code = unlearned.popitem()
        offsets = calls_before_try(code, in_loops=True)
        if len(learned) >= most_learned:
            learned.clear()
        learned[id(code)] = code, offsets


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


cdef enum Place:
    #: The thread goes on to the next instruction without a look at its slot.
    GOES_ON
    #: It looks, and an exception may come up.
    DELIVERS
    #: It looks behind a call, where no exception may come up.
    HELD_BACK
    #: It looks, and ``learn`` has to find out whether an exception may come up.
    UNLEARNED


cdef Place place_of(object frame):
    """Say what happens where the frame's thread stands; GOES_ON for None, which stands for no frame."""
    cdef Py_ssize_t offset = frame_offset(frame)
    if offset < 0:
        return GOES_ON if frame is None else DELIVERS
    return place_at(frame_code(frame), offset)


cdef Place place_at(object code, Py_ssize_t offset):
    """The same for an offset in a code. The rules are those of ``bytecode.delivers``."""
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
        if name is acquire:  # the names in a code are interned
            known = learned.get(id(code))
            if known is None:
                unlearned[id(code)] = code
                return UNLEARNED
            return HELD_BACK if offset in known[1] else DELIVERS
    return DELIVERS


def _delivers(code, Py_ssize_t offset):
    """Say whether an exception may come up there: for the test that compares this with ``bytecode.delivers``."""
    while place_at(code, offset) == UNLEARNED:
        learn()
    return place_at(code, offset) == DELIVERS


cdef bint is_returning(object frame):
    """Say whether the frame ends with a result, and not with an exception."""
    cdef bytes instructions = code_bytes(frame_code(frame))
    return returns[instructions[frame_offset(frame)]]
