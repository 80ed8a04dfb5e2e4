"""A part of ``_interrupt.pyx``: the next jump backwards of a thread whose profile function sees no safe place.

A loop that calls nothing, over a pipe, say, may give up the GIL only in the middle of an instruction that does not look
at the slot; and one whose every call ends in an exception from protected code comes back to its own code only in the
handler. But each loop jumps backwards. There an exception may come up: CPython itself looks at the slot there, only not
always (``JUMP_BACKWARD`` in ``Python/bytecodes.c``).

From 3.12 on ``sys.monitoring`` calls back at each jump of one code, and then at the instruction that it leads to. The
exception is raised there, not at the jump, which some ``try`` and ``with`` statements around a loop do not cover.
Before, a trace function is called before each instruction of one frame, and raises at the first that stands before the
last one: not at the jump either, which may depend on whether ``acquire`` has taken a lock. It is the thread's own, so
it is not used where that has one.
"""


def follow_jump(code, Py_ssize_t offset, Py_ssize_t destination):
    """The callback for each jump of a followed code, in any thread."""
    if destination > offset:
        return
    cdef Scope scope = <Scope>innermost_scope if innermost_scope != NULL else None
    while scope is not None and scope._followed is not code:
        scope = scope._outer
    if scope is not None and scope._may_come_up_in_loop(PyThreadState_Get()):
        scope._target = destination
        scope._watch(code)


cdef int trace_jumps(PyObject *argument, PyFrameObject *event_frame, int what, PyObject *result) noexcept:
    """The trace function: runs in the target, before each instruction of the followed frame."""
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
    if scope._target > before or not scope._may_come_up_in_loop(thread):
        return 0
    return scope._come_up(thread)
