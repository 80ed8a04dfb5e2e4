"""A part of ``_interrupt.pyx``: the profile function of a thread in which nothing may be raised now."""


cdef int raise_if_safe(PyObject *argument, PyFrameObject *event_frame, int what, PyObject *result) noexcept:
    """The profile function: runs in the target, at each call and return."""
    cdef Scope scope = (<Scope>innermost_scope)._armed() if innermost_scope != NULL else None
    if scope is None:
        return 0
    cdef PyThreadState *thread = PyThreadState_Get()
    cdef Py_tracefunc theirs = scope._profiler
    if theirs != NULL:
        if theirs(argument, event_frame, what, result) < 0:  # and has been taken off for that
            return -1
        if profiler_of(thread) != raise_if_safe or what == PyTrace_CALL or what == PyTrace_C_CALL:
            # An exception at a call would keep from them the return that goes with it.
            return 0
    cdef object frame = <object><PyObject *>event_frame
    if what == PyTrace_RETURN:
        # With a result of NULL an exception is on its way out; 3.12 says None then, too (sys_profile_func2 in
        # Python/legacy_tracing.c). And what is raised where a generator yields passes by the generator's own try and
        # with statements: its frame counts as left (exit_unwind in Python/ceval.c).
        code = frame_code(frame)
        if result == NULL or not is_returning(frame) or is_generator(code) or is_callback(code):
            return 0
        frame = frame_back(frame)  # what returns is done
    elif what != PyTrace_CALL and what != PyTrace_C_CALL and what != PyTrace_C_RETURN:
        return 0
    # None: what returns is the outermost function of a greenlet, and another one goes on.
    if frame is None or frame is scope._base or scope._is_shielded():
        return 0
    # A C function that is called may be a lock's release. But before its acquire it is safe, and a loop around that may
    # have no other place.
    cdef Place wanted = HELD_BACK if what == PyTrace_C_CALL else DELIVERS
    cdef object base = scope._base
    if not (
        place_of(frame) == wanted and is_safe_here(frame, base)
        or what == PyTrace_C_RETURN and is_waiting(frame, base)
    ):
        return 0
    return scope._come_up(thread)
