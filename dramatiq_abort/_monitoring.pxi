"""A part of ``_interrupt.pyx``: has every instruction of a code watched, by ``sys.monitoring``, from 3.13 on."""

import os
import sys

#: The watched codes, by their ids, and how many scopes watch each.
cdef dict watchers = {}

# Looked up once: to do so in each place takes time, and much code.
cdef object monitoring = sys.monitoring if LOOKS_LATE else None
cdef str own_name = __name__


cdef object monitoring_tool():
    """Return the id under which ``sys.monitoring`` calls ``raise_at_instruction``, from the first need on, or None."""
    cdef int tool = 4  # or 3: the others have names: debuggers, coverage, profilers, optimizers
    while tool > 2:  # as a loop over a tuple, the compiler would write it out
        if monitoring.get_tool(tool) is None:
            monitoring.use_tool_id(tool, own_name)
            monitoring.register_callback(tool, monitoring.events.INSTRUCTION, raise_at_instruction)
        if monitoring.get_tool(tool) == own_name:
            return tool
        tool -= 1
    return None


cdef bint is_monitored() noexcept:
    """Say whether somebody else's callbacks are called in between: what came up in there would be theirs."""
    for tool in range(6):
        if monitoring.get_tool(tool) not in (None, own_name):
            return True
    return False


cdef void count_watchers(object code, int change) noexcept:
    """Have the instructions of a code watched while there is anybody who wants it, in whichever thread."""
    cdef int before = watchers.pop(id(code), (code, 0))[1]
    cdef int number = max(0, before + change)
    if number:
        watchers[id(code)] = code, number
    if bool(number) != bool(before):
        set_events(code, monitoring.events.INSTRUCTION if number else 0)


cdef void set_events(object code, object events) noexcept:
    cdef object tool = monitoring_tool()
    if tool is not None:
        monitoring.set_local_events(tool, code, events)


def forget_watchers():
    """After a fork, the threads whose code was watched are gone."""
    for code, _ in watchers.values():
        set_events(code, 0)
    watchers.clear()


if LOOKS_LATE and hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=forget_watchers)
