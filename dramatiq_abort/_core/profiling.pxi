"""A part of ``_interrupt.pyx``: the profile function of a thread in which nothing may be raised at the moment."""


cdef int raise_if_safe(PyObject *argument, PyFrameObject *event_frame, int what, PyObject *result) noexcept:
    """Raise the exception at the first safe point. A profile function: runs in the target at each call and return."""
    cdef Scope scope = (<Scope>innermost_scope)._armed() if innermost_scope != NULL else None
    if scope is None:
        return 0
    cdef PyThreadState *thread = PyThreadState_Get()
    cdef Py_tracefunc previous = scope._profiler
    if previous != NULL:
        if previous(argument, event_frame, what, result) < 0:  # CPython has taken it off the thread for that
            return -1
        if profiler_of(thread) != raise_if_safe or what == PyTrace_CALL or what == PyTrace_C_CALL:
            # An exception at a call would deprive the other profiler of the matching return.
            return 0
    cdef object frame = <object><PyObject *>event_frame
    if what == PyTrace_RETURN:
        # A result of NULL means that an exception is on its way out; on 3.12 the result is None then, too
        # (sys_profile_func2 in Python/legacy_tracing.c). And an exception that is raised where a generator yields skips
        # the generator's own try and with statements, because its frame counts as left (exit_unwind in Python/ceval.c).
        code = frame_code(frame)
        if result == NULL or not is_returning(frame) or is_generator(code) or is_callback(code):
            return 0
        frame = frame_back(frame)  # the returning function has completed, and does not count
    elif what != PyTrace_CALL and what != PyTrace_C_CALL and what != PyTrace_C_RETURN:
        return 0
    # None: the outermost function of a greenlet returns, and another greenlet goes on.
    if frame is None or frame is scope._base or scope._is_shielded():
        return 0
    # Nothing is raised at the call of a C function, which may be a lock's release. The exception is a call of acquire
    # after which nothing may be raised: it is safe before the call, and a loop around it may have no other safe point.
    cdef Place wanted = HELD_BACK if what == PyTrace_C_CALL else DELIVERS
    cdef object base = scope._base
    if not (
        place_of(frame) == wanted and is_safe_here(frame, base)
        or what == PyTrace_C_RETURN and is_waiting(frame, base)
    ):
        return 0
    return scope._raise_here(thread)
