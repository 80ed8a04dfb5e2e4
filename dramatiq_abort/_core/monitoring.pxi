"""A part of ``_interrupt.pyx``: watches the instructions and the jumps of a code, with ``sys.monitoring``."""

import os
import sys

#: The watched codes by their ids, each with the number of scopes that watch its instructions and its jumps.
cdef dict watchers = {}

# Looked up once: each lookup costs time, and much generated code.
cdef object monitoring = sys.monitoring if HAS_MONITORING else None
cdef str own_name = __name__
#: The name of the tool of _core/jumps.py, which is in use where tests run both cores in one process.
cdef str other_cores_name = "dramatiq_abort._core.jumps"


cdef object monitoring_tool():
    """Return the id of our tool in ``sys.monitoring``, which the first call acquires; None if there is no free one."""
    cdef int tool = 4  # or 3: the other ids are reserved for debuggers, coverage, profilers and optimizers
    while tool > 2:  # the compiler would unroll a loop over a tuple
        if monitoring.get_tool(tool) is None:
            monitoring.use_tool_id(tool, own_name)
            monitoring.register_callback(tool, monitoring.events.INSTRUCTION, raise_at_instruction)
            monitoring.register_callback(tool, monitoring.events.JUMP, follow_jump)
        if monitoring.get_tool(tool) == own_name:
            return tool
        tool -= 1
    return None


cdef bint is_monitored() noexcept:
    """Return whether another tool is active: the exception could be raised in one of its callbacks."""
    for tool in range(6):
        if monitoring.get_tool(tool) not in (None, own_name, other_cores_name):
            return True
    return False


cdef void count_watchers(object code, int instructions, int jumps) noexcept:
    """Change the numbers of scopes that watch the instructions and the jumps of a code, in all threads."""
    cdef tuple before = watchers.pop(id(code), (code, 0, 0))
    cdef int instructions_now = max(0, <int>before[1] + instructions)
    cdef int jumps_now = max(0, <int>before[2] + jumps)
    if instructions_now or jumps_now:
        watchers[id(code)] = code, instructions_now, jumps_now
    if bool(instructions_now) != bool(before[1]) or bool(jumps_now) != bool(before[2]):
        events = monitoring.events
        set_events(code, (events.INSTRUCTION if instructions_now else 0) | (events.JUMP if jumps_now else 0))


cdef void set_events(object code, object events) noexcept:
    cdef object tool = monitoring_tool()
    if tool is not None:
        monitoring.set_local_events(tool, code, events)


def raise_at_instruction(code, Py_ssize_t offset):
    """Raise the exception that belongs here. The callback for each instruction of the watched code, in any thread."""
    cdef Scope scope = <Scope>innermost_scope if innermost_scope != NULL else None
    while scope is not None and scope._watched is not code:
        scope = scope._outer
    if scope is None:
        return
    cdef PyThreadState *thread = PyThreadState_Get()
    if not scope._owns_slot:  # follow_jump has watched the code, to raise where the jump leads to
        scope._watch(None)
        if scope._target != offset or not scope._may_raise_in_loop(thread):
            return
    elif slot_of(thread) != <PyObject *>scope._token:  # another exception has overwritten it
        scope._watch(None)
        return
    else:
        # The thread has gone on without checking its slot. If it is in another function, or under another handler,
        # nothing is raised here, and the next interrupt inspects the thread again.
        is_same_place = innermost_frame(thread) is scope._frame and is_covered_alike(code, scope._offset, offset)
        PyThreadState_SetAsyncExc(ident_of(thread), NULL)
        scope._give_up_slot()
        if not is_same_place:
            return
    scope._disarm(thread)
    scope._raised = True
    raise scope._exception


def forget_watchers():
    """Stop watching all codes after a fork: the threads for which they were watched are gone."""
    for code, _, _ in watchers.values():
        set_events(code, 0)
    watchers.clear()


if HAS_MONITORING and hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=forget_watchers)
