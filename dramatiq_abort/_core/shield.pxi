"""A part of ``_interrupt.pyx``: the compiled core's shields."""

from dramatiq_abort._core.shield import NOTHING


@cython.final
@cython.no_gc_clear
cdef class Shield:
    """Inside of it, interrupts of a scope wait."""

    cdef Scope _scope
    cdef bint _entered

    def __cinit__(self, Scope scope not None):
        self._scope = scope

    def __enter__(self):
        cdef Scope scope = self._scope
        if self._entered:
            raise RuntimeError("this shield has been entered: call shield() for each with statement")
        if scope._state != OPEN or scope._thread != PyThreadState_Get():
            return
        scope._shields += 1
        self._entered = True

    def __dealloc__(self):
        # Nobody can leave it any more: from 3.14 on, somebody else's exception can come up between a shield's entry and
        # the block, whose end does not belong to anybody then. Whoever interrupts asks again.
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
            # A generator, say, that another thread closes: the exception belongs to the scope's thread. Or a context
            # manager that uses a shield when it is entered: what it has taken would be lost.
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
