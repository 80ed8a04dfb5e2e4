"""A part of ``_interrupt.pyx``: has the instructions or the jumps of a code watched by ``sys.monitoring``."""

import os
import sys

#: The watched codes, by their ids, and how many scopes watch the instructions and the jumps of each.
cdef dict watchers = {}

# Looked up once: to do so in each place takes time, and much code.
cdef object monitoring = sys.monitoring if HAS_MONITORING else None
cdef str own_name = __name__
#: Under which _core/jumps.py has a tool of its own: where tests run both cores in one process.
cdef str other_cores_name = "dramatiq_abort._core.jumps"


cdef object monitoring_tool():
    """Return the id under which ``sys.monitoring`` calls what is registered here, from the first need on, or None."""
    cdef int tool = 4  # or 3: the others have names: debuggers, coverage, profilers, optimizers
    while tool > 2:  # as a loop over a tuple, the compiler would write it out
        if monitoring.get_tool(tool) is None:
            monitoring.use_tool_id(tool, own_name)
            monitoring.register_callback(tool, monitoring.events.INSTRUCTION, raise_at_instruction)
            monitoring.register_callback(tool, monitoring.events.JUMP, follow_jump)
        if monitoring.get_tool(tool) == own_name:
            return tool
        tool -= 1
    return None


cdef bint is_monitored() noexcept:
    """Say whether somebody else's callbacks are called in between: what came up in there would be theirs."""
    for tool in range(6):
        if monitoring.get_tool(tool) not in (None, own_name, other_cores_name):
            return True
    return False


cdef void count_watchers(object code, int instructions, int jumps) noexcept:
    """Change how many scopes watch the instructions and the jumps of a code, in whichever thread it runs."""
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
    """The callback for each instruction of the watched code, in any thread."""
    cdef Scope scope = <Scope>innermost_scope if innermost_scope != NULL else None
    while scope is not None and scope._watched is not code:
        scope = scope._outer
    if scope is None:
        return
    cdef PyThreadState *thread = PyThreadState_Get()
    if not scope._owns_slot:  # it has jumped to here
        scope._watch(None)
        if scope._target != offset or not scope._may_come_up_in_loop(thread):
            return
    elif slot_of(thread) != <PyObject *>scope._token:  # it has been overwritten
        scope._watch(None)
        return
    else:
        # The thread has gone on without a look at it. If not to a place like the one where it stood, whoever
        # interrupts asks again.
        is_there = innermost_frame(thread) is scope._frame and is_covered_alike(code, scope._offset, offset)
        PyThreadState_SetAsyncExc(ident_of(thread), NULL)
        scope._give_up_slot()
        if not is_there:
            return
    scope._disarm(thread)
    scope._raised = True
    raise scope._exception


def forget_watchers():
    """After a fork, the threads whose code was watched are gone."""
    for code, _, _ in watchers.values():
        set_events(code, 0)
    watchers.clear()


if HAS_MONITORING and hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=forget_watchers)
