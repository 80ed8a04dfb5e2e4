# cython: language_level=3, embedsignature=True, embedsignature.format=clinic, auto_pickle=False
"""The compiled interrupt core: an exception raised from another thread, inside one function or not at all.

The problem
-----------

``PyThreadState_SetAsyncExc(thread, exception)`` puts an exception class into the one slot that each thread has
for this (``PyThreadState.async_exc``). The thread raises it at its next look at the slot. It looks when it enters
a Python function, when it jumps backwards, and after a call: ``_Py_HandlePending`` in CPython's
``Python/ceval_gil.c`` (``eval_frame_handle_pending`` in ``Python/ceval.c`` before 3.12). The function that should
be stopped may have returned by then, and the exception comes up in whatever the thread does next: in the caller's
bookkeeping, in an ``except`` clause that was never meant for it, in the next task.

Ways that do not work
---------------------

*Open before the call and close after it, in Python.* Between the function's ``return`` and the first instruction of
whatever closes there is always a look at the slot (the one after the call). An exception that is delivered there
comes up outside of the function, and the function's result is lost.

*Catch what comes late, around the call.* Where the late exception comes up, the result is already gone from the
stack; and the code that catches can be hit itself.

*A lock around setting and closing.* The thread that closes can be hit while it takes the lock, and then the lock
stays locked.

*Clear the slot with ctypes.* The call into ``PyThreadState_SetAsyncExc(thread, NULL)`` is a call: the thread looks at
the slot on its way back to the next instruction. What should be cleared has been raised by then.

What is done here
-----------------

Opening, calling, closing and clearing are one C function, ``Scope.run``. CPython looks at the slot only between
bytecodes, and there are none between the function's return and the clearing. Whoever interrupts holds the GIL, so
for him the scope is open and the exception goes in, or it is closed and nothing happens: there is no third case.

Before anything is put into the slot it is read, and an exception that somebody else left there (dramatiq's
``TimeLimit`` and ``ShutdownNotifications`` use the same slot) stays. On closing, the slot is cleared only if what is
in it came from this scope.

What remains
------------

The exception is raised between two bytecodes of Python code. A thread that waits in C (a lock, a socket, a database
driver) raises it when the call returns. Code of the form ``lock.acquire(); try:`` can be hit before its ``try``, and
a ``finally`` block half way: that is what ``shield()`` is for. Exceptions raised in ``__del__`` and other callbacks
from C without an error path are printed by CPython and lost, ours as well.

What protects the fields
------------------------

The GIL: no field is touched without it, and no method gives it up half way. That is why the module is not declared
safe for free-threaded builds, which switch the GIL on when they import it.
"""

cimport cython
from cpython.object cimport PyObject, PyObject_Call
from libc.stdint cimport uint64_t

from dramatiq_abort._answer import Answer

__all__ = ["SUPPORTED", "Scope"]

cdef extern from *:
    """
    #if defined(_MSC_VER)
    #define SCOPE_THREAD_LOCAL __declspec(thread)
    #else
    #define SCOPE_THREAD_LOCAL _Thread_local
    #endif

    /* The innermost open scope of this thread: borrowed, since Scope.run holds a reference while it is open. */
    static SCOPE_THREAD_LOCAL PyObject *innermost_scope = NULL;

    /* In the public headers of every version up to 3.15 (cpython/pystate.h), but not in the limited API. */
    static inline PyObject *slot_of(PyThreadState *thread) { return thread->async_exc; }
    static inline unsigned long ident_of(PyThreadState *thread) { return thread->thread_id; }

    /* The thread, if it is still alive: it can have ended, or be gone after a fork, while its scope is open, and its
       memory can be another thread's by now. Ids are never used twice. */
    static PyThreadState *living(PyThreadState *wanted, uint64_t id) {
        PyThreadState *thread = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
        while (thread != NULL && thread != wanted) {
            thread = PyThreadState_Next(thread);
        }
        return thread != NULL && PyThreadState_GetID(thread) == id ? thread : NULL;
    }
    """
    ctypedef struct PyThreadState:
        pass
    PyObject *innermost_scope
    PyObject *slot_of(PyThreadState *) noexcept
    unsigned long ident_of(PyThreadState *) noexcept
    PyThreadState *living(PyThreadState *, uint64_t) noexcept
    PyThreadState *PyThreadState_Get() noexcept
    uint64_t PyThreadState_GetID(PyThreadState *) noexcept
    int PyThreadState_SetAsyncExc(unsigned long, PyObject *) noexcept

#: Whether this interpreter can raise an exception in another thread.
SUPPORTED = True

cdef object RAISED = Answer.RAISED
cdef object WAITING = Answer.WAITING
cdef object TAKEN = Answer.TAKEN
cdef object CLOSED = Answer.CLOSED

cdef enum State:
    NEW
    OPEN
    DONE


@cython.final
cdef class Scope:
    """The stretch of one call in which an exception may be raised from another thread.

    A scope runs one callable, once. Scopes nest: an exception for the outer one may come up in the inner one's
    function, which runs inside the outer one's.
    """

    cdef State _state
    cdef PyThreadState *_thread
    cdef uint64_t _thread_id
    cdef Scope _outer
    cdef Scope _inner
    cdef int _shields
    #: The class that was asked for, from the first interrupt on.
    cdef object _exception
    #: What is in the thread's slot, if it is our class, was put there by this scope.
    cdef bint _owns_slot
    #: Has been put into the slot or raised by a shield: a scope does so once.
    cdef bint _raised

    def run(self, function, tuple args=(), dict kwargs=None):
        """Call ``function(*args, **kwargs)`` in this scope, and return what it returns.

        An interrupt raises its exception inside of the function or not at all: when the function has returned, or
        raised, nothing comes up any more. An interrupt that came before the opening is raised instead of the call.

        Raises:
          RuntimeError: When the scope has been run before.
        """
        if self._state != NEW:
            raise RuntimeError("a scope runs one call: make a new Scope for each")
        if self._exception is not None:
            self._state = DONE
            self._raised = True
            raise self._exception
        self._open()
        try:
            return PyObject_Call(function, args, {} if kwargs is None else kwargs)
        finally:
            self._close()

    def interrupt(self, exception not None):
        """Raise ``exception`` in the scope, from any thread, and answer what happened.

        The exception is raised once, however often this is called.

        Parameters:
          exception: A subclass of ``BaseException``. A class, since CPython makes the instance, in the target.

        Returns:
          Answer: ``RAISED``, ``WAITING``, ``TAKEN`` or ``CLOSED``.

        Raises:
          TypeError: When ``exception`` is not an exception class.
        """
        if not isinstance(exception, type) or not issubclass(exception, BaseException):
            raise TypeError(f"an exception class is needed to interrupt a scope, not {exception!r}")
        if self._state == DONE:
            return CLOSED
        if self._raised:
            return RAISED
        if self._state == NEW or self._is_shielded():
            self._exception = exception
            return WAITING
        cdef PyThreadState *thread = living(self._thread, self._thread_id)
        if thread == NULL:
            return CLOSED
        if slot_of(thread) != NULL:
            return TAKEN
        self._exception = exception
        self._take_slot()
        PyThreadState_SetAsyncExc(ident_of(thread), <PyObject *>exception)
        return RAISED

    def shield(self):
        """Return a context manager inside of which interrupts of this scope wait.

        Shields nest, and protect against the scopes around this one, too. What has been waiting is raised on the way
        out of the outermost one, with the exception that is leaving it, if any, as its context. In another thread
        than the scope's, and when the scope is not open, a shield does nothing.
        """
        return Shield(self)

    cdef void _open(self) noexcept:
        global innermost_scope
        self._thread = PyThreadState_Get()
        self._thread_id = PyThreadState_GetID(self._thread)
        if innermost_scope != NULL:
            self._outer = <Scope>innermost_scope
            self._outer._inner = self
        innermost_scope = <PyObject *>self
        self._state = OPEN

    cdef void _close(self) noexcept:
        global innermost_scope
        # Nothing in here may run Python code, or it could be interrupted itself.
        self._state = DONE
        if self._owns_slot and slot_of(self._thread) == <PyObject *>self._exception:
            PyThreadState_SetAsyncExc(ident_of(self._thread), NULL)
        self._thread = NULL
        innermost_scope = <PyObject *>self._outer if self._outer is not None else NULL
        if self._outer is not None:
            self._outer._inner = None
            self._outer = None

    cdef void _take_slot(self) noexcept:
        # The slot is empty: what the thread's other scopes had put there has been raised. Without this an inner
        # scope would clear, when it closes, what is now the outer one's.
        cdef Scope scope = self._outer
        while scope is not None:
            scope._owns_slot = False
            scope = scope._outer
        scope = self._inner
        while scope is not None:
            scope._owns_slot = False
            scope = scope._inner
        self._owns_slot = True
        self._raised = True

    cdef bint _is_shielded(self) noexcept:
        cdef Scope scope = self
        while scope is not None:
            if scope._shields:
                return True
            scope = scope._inner
        return False

    cdef Scope _first_due(self):
        """Of this scope and those around it, the first with an exception that waits and may now be raised."""
        cdef Scope scope = self
        while scope is not None and not scope._shields:
            if scope._exception is not None and not scope._raised:
                return scope
            scope = scope._outer
        return None


@cython.final
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
        cdef Scope owner = scope
        while owner is not None:
            # Set, but not yet raised, since the thread has been in C code from then to now: raise it here, or it would
            # come up behind the shield.
            if owner._owns_slot and slot_of(scope._thread) == <PyObject *>owner._exception:
                PyThreadState_SetAsyncExc(ident_of(scope._thread), NULL)
                owner._owns_slot = False
                raise owner._exception
            owner = owner._outer
        scope._shields += 1
        self._entered = True

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
        if scope._thread != PyThreadState_Get():
            # A generator, say, that another thread closes: the exception belongs to the scope's thread.
            due.interrupt(due._exception)
            return
        due._raised = True
        raise due._exception
