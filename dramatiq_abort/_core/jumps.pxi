"""A part of ``_interrupt.pyx``: the next jump backwards of a thread whose profile function finds no safe point.

Two kinds of loops have no safe point at their calls and returns. A loop that calls nothing, over a pipe, say, may give
up the GIL only in the middle of an instruction that does not check the slot. A loop in which every call ends with an
exception from protected code returns to its own code only in the handler. But each loop jumps backwards, and there an
exception may be raised: CPython itself checks the slot there, though not always (``JUMP_BACKWARD`` in
``Python/bytecodes.c``).

From 3.12 on ``sys.monitoring`` calls back at each jump of one code, and then at the instruction that the jump leads to.
The exception is raised at that instruction, not at the jump, which some ``try`` and ``with`` statements around a loop
do not cover.

Before 3.12 a trace function is called before each instruction of one frame, and raises at the first instruction that
stands before the last one. It does not raise at the jump either, because the jump may depend on whether ``acquire`` has
taken a lock. The trace function is the thread's own, so it is not used in a thread that has one already.
"""


def follow_jump(code, Py_ssize_t offset, Py_ssize_t destination):
    """Watch the code whose jump backwards is due, to raise where the jump leads to.

    The callback for each jump of a followed code, in any thread.
    """
    if destination > offset:
        return
    cdef Scope scope = <Scope>innermost_scope if innermost_scope != NULL else None
    while scope is not None and scope._followed is not code:
        scope = scope._outer
    if scope is not None and scope._may_raise_in_loop(PyThreadState_Get()):
        scope._target = destination
        scope._watch(code)


cdef int trace_jumps(PyObject *argument, PyFrameObject *event_frame, int what, PyObject *result) noexcept:
    """Raise after a jump backwards. A trace function: runs in the target before each instruction of its frame."""
    if what != PyTrace_OPCODE or innermost_scope == NULL:
        return 0
    cdef PyThreadState *thread = PyThreadState_Get()
    cdef Scope scope = <Scope>innermost_scope
    cdef object frame = <object><PyObject *>event_frame
    while scope is not None and scope._followed is not frame:
        scope = scope._outer
    if scope is None:
        return 0
    cdef Py_ssize_t before = scope._target
    scope._target = frame_offset(frame)
    if scope._target > before or not scope._may_raise_in_loop(thread):
        return 0
    return scope._raise_here(thread)
