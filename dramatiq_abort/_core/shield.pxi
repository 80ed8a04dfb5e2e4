"""A part of ``_interrupt.pyx``: the shields of the compiled core."""

from dramatiq_abort._core.shield import NOTHING


@cython.final
@cython.no_gc_clear
cdef class Shield:
    """A context manager inside which interrupts of a scope wait."""

    cdef Scope _scope
    cdef bint _entered

    def __cinit__(self, Scope scope not None):
        self._scope = scope

    def __enter__(self):
        cdef Scope scope = self._scope
        if self._entered:
            raise RuntimeError("this shield has been entered before: call shield() for each with statement")
        if scope._state != OPEN or scope._thread != PyThreadState_Get():
            return
        scope._shields += 1
        self._entered = True

    def __dealloc__(self):
        # No code can leave the shield any more. From 3.14 on another exception can be raised between the entry of a
        # shield and its block, and then __exit__ is not called. The next interrupt inspects the thread again.
        if self._entered:
            self._scope._shields -= 1

    def __exit__(self, *exc_info):
        cdef Scope scope = self._scope
        if not self._entered:
            return
        self._entered = False
        scope._shields -= 1
        if scope._state != OPEN or scope._is_shielded():
            return
        cdef Scope due = scope._first_due()
        if due is None:
            return
        if scope._thread != PyThreadState_Get() or not is_safe(
            innermost_frame(scope._thread), frame_object(scope._thread, due._base_field)
        ):
            # Either another thread ends the shield, by closing a generator, say: the exception belongs to the scope's
            # thread. Or the shield ends in protected code, in an __enter__, say: what that has acquired would be lost.
            due.interrupt(due._exception)
            return
        due._disarm(scope._thread)
        due._raised = True
        raise due._exception

    def __aenter__(self):
        self.__enter__()
        return NOTHING

    def __aexit__(self, *exc_info):
        self.__exit__(*exc_info)
        return NOTHING
