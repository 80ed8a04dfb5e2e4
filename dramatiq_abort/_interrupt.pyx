# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, auto_pickle=False
# cython: boundscheck=False, wraparound=False
"""The compiled interrupt core: raises an exception from another thread inside one function, or not at all."""

# The problem
# -----------
#
# CPython can raise an exception in another thread. PyThreadState_SetAsyncExc (Python/pystate.c) stores an exception
# class in the one slot that each thread state has for this, PyThreadState.async_exc, and sets the eval breaker, a flag
# that tells the evaluation loop to check. The thread checks its slot when it enters a Python function, when it jumps
# backwards and after a call, and raises what it finds (_Py_HandlePending in Python/ceval_gil.c; before 3.12
# eval_frame_handle_pending in Python/ceval.c).
#
# Between the store and the check the thread goes on running. An exception that is meant for one function can do three
# kinds of damage:
#
# - It is raised after the function has returned: in dramatiq's worker loop, in another middleware, in the next message.
#   dramatiq catches Exception there, and an interrupt is not an Exception, so the thread dies, or hooks run twice.
# - It is raised inside the function, but between lock.acquire() and its ``try``. The lock stays locked, and every other
#   thread that needs it hangs.
# - It replaces an exception that is already in the slot, such as one of dramatiq's TimeLimit, or is replaced by one.
#
# Ways that do not work
# ---------------------
#
# - Open the scope in one hook and close it in another. The slot is checked after each call, so it is always checked
#   between the function's return and the first instruction of the closing hook.
# - Catch the exception that comes late. The function's result is lost by then, and the code that catches can be
#   interrupted itself.
# - Hold a lock while storing and while closing. The thread that closes the scope can be interrupted while it acquires
#   the lock, and then the lock stays locked.
# - Clear the slot from Python, by way of ctypes. That takes a call, and the slot is checked after a call: the exception
#   has been raised by then.
# - Retry until the thread is found at a safe point. Threads that contend for a lock give up the GIL only inside
#   ``acquire``, so each retry finds them there.
# - Kill the process. When one worker process dies, dramatiq's main process stops them all.
#
# Solution
# --------
#
# - *One C function opens the scope, calls the function, closes the scope and clears the slot*: ``Scope.run``. CPython
#   checks the slot only between bytecodes, and no bytecode runs between the function's return and the closing. The
#   interrupting thread holds the GIL, so it finds the scope either open, and the exception goes in, or closed, and
#   nothing happens.
# - *Inspect, then store.* While the interrupting thread holds the GIL, the target stands still. The core walks the
#   target's frames, from the innermost one to the scope's own, and stores the exception only if none of them runs
#   protected code and the thread stands at an instruction that checks the slot before the next one. The inspection and
#   the store are one C function, so the target cannot move in between.
# - *Where nothing may be raised now, follow the thread.* The core installs a profile function, written in C, on the
#   target's own thread state. It runs in the target at each call and return, inspects again, and at the first safe
#   point removes itself and raises (``_core/profiling.pxi``). A loop that calls nothing is followed to its next jump
#   backwards (``_core/jumps.pxi``). From 3.13 on a thread can resume without checking its slot again, so the
#   instructions of its code are watched as well (``_core/monitoring.pxi``).
# - *Store a token, not the exception class.* A token is a subclass that stands for the exception class
#   (``token_for``). CPython calls it for an instance when it raises it, which tells the scope that its exception has
#   been raised. A token that has left the slot without being raised has been overwritten, and is stored again.
#
# What can still fail
# -------------------
#
# - A thread that waits in C (for a lock, a socket, a database driver) raises the exception when the call returns. From
#   3.15 on a signal can end some of these calls early (``_core/blocking_calls.py``).
# - Code of the form ``thing = take(); try:`` can be interrupted before its ``try``, unless the call is a lock's
#   ``acquire``, and a ``finally`` block can be interrupted halfway. That is what ``shield()`` is for.
# - Some callbacks that C code calls without an error path look like any other function, such as the clean-up of an
#   unfinished generator. CPython drops the exception there. If that is noticed, the scope can be interrupted once more
#   (``Scope.rearm``).
#
# docs/internals.md has the details, under "The exact window" and "Safe points".
#
# Rules for this code
# -------------------
#
# - No bytecode runs between the function's return and the closing of the scope.
# - No Python code runs from the first read of a scope's state, and of its thread's frames, until the slot is set: the
#   target would get a turn. Everything that takes Python code is done before (``Scope.interrupt``, ``learn``). Up to
#   3.11 even creating an object may start the garbage collector, which runs Python code (``hold_collector``).
# - The slot is read before it is written, and cleared only while it holds this scope's own exception.
# - A callback that runs in the target (``_core/profiling.pxi``, ``_core/monitoring.pxi``, ``_core/jumps.pxi``) inspects
#   the frames again before it raises, and removes itself.
#
# What protects the fields
# ------------------------
#
# The GIL: no field is accessed without it, and no method of a scope gives it up halfway. On a build without it, each
# field would need something else:
#
# - ``_state``, ``_thread``, ``_thread_id``, ``_base_field``, ``_outer`` and ``_inner`` are written by the scope's own
#   thread and read by interrupting threads; ``innermost_scope`` is thread-local. A lock per scope would do.
# - ``_exception``, ``_raised``, ``_owns_slot``, ``_base``, ``_profiler``, ``_watched``, ``_shields`` (another thread
#   may leave a shield, or drop it) and the record of the last inspection are written by both sides. The same lock would
#   do, but the closing of the scope would have to take it for each call.
# - The target's frames, its slot and its profile function are CPython's. Reading them needs a target that stands still,
#   and an extension cannot stop a thread: only the interpreter can (``_PyEval_StopTheWorld``).
# - The hooks (``_worker/hooks.pxi``) keep ``by_id`` and ``redelivered`` as dictionaries, in which each operation is one
#   step. The records of completed messages are written by each thread that completes one, in ``_remember``, which runs
#   no Python code from the choice of a place there to its end. These would need a lock.
#
# For these reasons the module is not declared safe for free-threaded builds. Importing it there would switch the GIL
# on, so it is not built there (setup.py), and not imported while the GIL is off (interrupt.py). The profile function
# alone would work without the GIL, because it runs in the target.

cimport cython
from cpython.object cimport PyObject, PyObject_Call, PyTypeObject
from cpython.ref cimport Py_DECREF
from cpython.set cimport PySet_Contains
from libc.stdint cimport uint64_t

from dramatiq_abort._core.thread_state cimport *

import time

from dramatiq_abort._core.result import InterruptResult
from dramatiq_abort._core.blocking_calls import SUPPORTED as SUPPORTS_SIGNAL
from dramatiq_abort._core.blocking_calls import signal_number
from dramatiq_abort._core.frames import frames_from
from dramatiq_abort._core.safe_points import landing

__all__ = ["SUPPORTED", "ScopedCall", "MessageHooks", "Scope", "BaseExecution"]

#: Whether this interpreter can raise an exception in another thread.
SUPPORTED = True

cdef object RAISED = InterruptResult.RAISED
cdef object DEFERRED = InterruptResult.DEFERRED
cdef object ARMED = InterruptResult.ARMED
cdef object PROTECTED = InterruptResult.PROTECTED
cdef object SLOT_BUSY = InterruptResult.SLOT_BUSY
cdef object CLOSED = InterruptResult.CLOSED

cdef bint HAS_SIGNAL = SUPPORTS_SIGNAL
cdef dict tokens = {}
cdef object monotonic = time.monotonic

#: A thread that has stood at one place for longer than this, in seconds, waits in C code there, not for the GIL.
cdef double LONGEST_TURN = 5

cdef enum State:
    NEW
    OPEN
    DONE


include "_core/bytecode.pxi"
include "_core/safe_points.pxi"
include "_core/profiling.pxi"
include "_core/monitoring.pxi"
include "_core/jumps.pxi"


def make_exception(token, *args):
    """Return an instance of the class that the token stands for. CPython calls this when it raises the token.

    It runs in the thread that raises, so this is where the scope learns that its exception has been raised.
    """
    cdef Scope scope = <Scope>innermost_scope if innermost_scope != NULL else None
    while scope is not None and not (scope._owns_slot and scope._token is token):
        scope = scope._outer
    if scope is not None:
        scope._owns_slot = False
        scope._watch(None)
        scope._frame = None
    # Up to 3.11 CPython calls a second time, with the instance that the first call returned.
    return args[0] if args else token.__base__()


cdef object token_for(object exception):
    """Return the token of an exception class: the subclass that is stored in slots in its place."""
    token = tokens.get(exception)
    if token is None:
        tokens[exception] = token = type(exception.__name__, (exception,), {"__new__": staticmethod(make_exception)})
    return token


@cython.final
@cython.freelist(16)
cdef class Scope:
    """The part of a thread's execution in which another thread may raise an exception: one call of a function.

    A scope runs one callable, once. Scopes nest: an exception for the outer scope may be raised in the inner scope's
    function, because that runs inside the outer one's.
    """

    cdef State _state
    cdef PyThreadState *_thread
    cdef uint64_t _thread_id
    cdef Scope _outer
    cdef Scope _inner
    cdef int _shields
    #: The exception class to raise, or already raised; None before the first interrupt.
    cdef object _exception
    #: The token that stands for it in the thread's slot.
    cdef object _token
    #: Whether the token has been stored and has not been raised yet.
    cdef bint _owns_slot
    #: Whether the token has been stored, or raised by a shield or by a callback: once per scope.
    cdef bint _raised
    #: The thread state's frame field when run() was called.
    cdef void *_base_field
    #: The same frame as an object, while the profile function is on the thread; else None.
    cdef object _base
    #: The profile function that the thread had before, for as long as ours is installed.
    cdef Py_tracefunc _profiler
    #: Where the last interrupt found the thread.
    cdef object _frame
    cdef Py_ssize_t _offset
    #: When the token was stored, in seconds, if the thread may not check its slot at once.
    cdef double _raised_at
    #: The code whose instructions are watched, or None.
    cdef object _watched
    #: The code or, before 3.12, the frame that is followed to its next jump backwards; None: neither.
    cdef object _followed
    #: Where that code's last jump has led or, before 3.12, that frame's last instruction.
    cdef Py_ssize_t _target

    def run(self, function, tuple args=(), dict kwargs=None):
        """Call ``function(*args, **kwargs)`` in this scope, and return what it returns.

        An interrupt raises its exception inside the function or not at all: once the function has returned or raised,
        nothing more is raised. An interrupt that came before the scope opened is raised instead of the call.

        Raises:
          RuntimeError: If the scope has been run before.
        """
        return self._call(function, args, {} if kwargs is None else kwargs)

    def interrupt(self, exception not None):
        """Raise ``exception`` in the scope, and return what became of it. Can be called from any thread.

        The exception is raised once, however often this is called. If another exception has overwritten it in the slot
        before it was raised, the next call raises it after that one.

        Parameters:
          exception: A subclass of ``BaseException``. A class, because CPython makes the instance, in the target.

        Returns:
          InterruptResult: ``RAISED``, ``DEFERRED``, ``ARMED``, ``PROTECTED``, ``SLOT_BUSY`` or ``CLOSED``.

        Raises:
          TypeError: If ``exception`` is not an exception class.
        """
        if not PyExceptionClass_Check(exception):
            raise TypeError(f"exception must be an exception class, not {exception!r}")
        cdef object result = None
        while result is None:
            learn()
            result = self._try_interrupt(exception)
        return result

    cdef object _try_interrupt(self, object exception):
        """Interrupt the scope, and return the result; None if ``learn`` has to run first."""
        # These run Python code, so they come before the first read of the state: the target would get a turn.
        cdef object token = token_for(exception)
        cdef int number = signal_number() if HAS_SIGNAL else 0
        cdef bint can_watch = HAS_MONITORING and monitoring_tool() is not None
        cdef bint can_follow = CHECKS_LATE and can_watch and not is_monitored()
        cdef object _held = self._frame  # releasing the frame may run Python code, so not before the end
        if self._state == DONE:
            return CLOSED
        if self._state == NEW:
            self._exception = exception
            return DEFERRED
        cdef PyThreadState *thread = living(self._thread, self._thread_id)
        if thread == NULL:
            return CLOSED
        cdef int collector = hold_collector()
        try:
            if self._raised:
                if not self._owns_slot:
                    return RAISED
                if slot_of(thread) == <PyObject *>self._token:
                    if self._watched is not None and monotonic() > self._raised_at + LONGEST_TURN:
                        self._watch(None)  # the thread waits in C code, and checks its slot on its return
                    send_signal(thread, number)  # an earlier signal may have come before the call
                    return RAISED
                self._give_up_slot()  # it has been overwritten
            if self._is_shielded():
                self._exception = exception
                self._token = token  # for the profile function as well, if it is installed
                return DEFERRED
            result = self._inspect_and_raise(thread, exception, token, can_watch, can_follow)
            if result is RAISED:
                send_signal(thread, number)
            return result
        finally:
            release_collector(collector)

    def shield(self):
        """Return a context manager inside which interrupts of this scope wait.

        Shields nest, and delay the interrupts of the scopes around this one, too. The end of the outermost shield
        raises the exception that has been waiting; an exception that is leaving the shield becomes its context. A
        shield does nothing in a thread other than the scope's, or while the scope is not open.
        """
        return Shield(self)

    def rearm(self):
        """Allow the scope to be interrupted again after its exception has been raised; return whether it now can be.

        Can be called from any thread. Returns False, and does nothing, before the exception has been raised.
        """
        if self._state != OPEN or not self._raised:
            return False
        cdef PyThreadState *thread = living(self._thread, self._thread_id)
        if thread == NULL or self._owns_slot and slot_of(thread) == <PyObject *>self._token:
            return False
        self._raised = self._owns_slot = False
        self._watch(None)
        self._frame = None
        return True

    def revoke(self):
        """Withdraw an exception that has not been raised yet, from any thread; return whether that was in time."""
        cdef PyThreadState *thread
        if self._raised or self._state == DONE:
            return False
        self._exception = None
        if self._state == OPEN:
            thread = living(self._thread, self._thread_id)
            if thread != NULL:
                self._disarm(thread)
        return True

    def claim(self, frame=None):
        """Mark the exception as raised by the caller, which raises it in another way; return whether it may.

        Can be called from any thread. Returns False if the exception has been raised already, inside a shield, and
        while the scope is not open. A profile function that is waiting to raise it is removed.

        Parameters:
          frame: The frame of a waiting greenlet in which the caller wants to raise. The result is False if that frame
            runs protected code, or is not in the scope.
        """
        if self._state != OPEN or self._raised or self._is_shielded():
            return False
        cdef PyThreadState *thread = living(self._thread, self._thread_id)
        if thread == NULL or frame is not None and not is_safe(frame, frame_object(thread, self._base_field)):
            return False
        self._disarm(thread)
        self._raised = True
        return True

    def may_be_cut(self, frame):
        """Say whether the functions from this frame up to the scope's own may be left half done; on its own thread."""
        return is_safe_here(frame, frame_object(self._thread, self._base_field))

    @property
    def is_shielded(self):
        """Whether the scope's thread is inside a shield of this scope."""
        return self._shields > 0

    def is_here(self):
        """Return whether the caller is in this scope, on the scope's thread."""
        return self._state == OPEN and self._thread == PyThreadState_Get()

    def frames(self):
        """Return the frames of the scope's thread, innermost last; an empty list while the scope is not open."""
        cdef PyThreadState *thread = living(self._thread, self._thread_id) if self._state == OPEN else NULL
        return frames_from(None if thread == NULL else innermost_frame(thread))

    cdef object _call(self, object function, tuple args, dict kwargs):
        if self._state != NEW:
            raise RuntimeError("this scope has been run before: make a new Scope for each call")
        if self._exception is not None:
            self._state = DONE
            self._raised = True
            raise self._exception
        self._open()
        try:
            return PyObject_Call(function, args, kwargs)
        finally:
            self._close()

    cdef object _inspect_and_raise(
        self, PyThreadState *thread, object exception, object token, bint can_watch, bint can_follow
    ):
        """Inspect the thread, then store the token or install the profile function, and return the result.

        Returns None if ``learn`` has to run first.
        """
        # No Python code may run from the inspection to the store, or the target moves.
        cdef object base = frame_object(thread, self._base_field)
        cdef object frame = innermost_frame(thread)
        cdef Scope armed = self._armed()
        if armed is not None and profiler_of(thread) != raise_if_safe:
            armed._base = None  # another profiler has replaced ours
            armed._watch(None)
            armed._follow(thread, None)
            armed = None
        cdef bint was_armed = armed is self
        if is_tracing(thread):
            return PROTECTED
        cdef Place place = place_of(frame)
        if place == UNLEARNED:
            self._frame = None  # the repeated inspection must not count as a later one
            return None
        cdef bint has_profiler = (profiler_of(thread) if armed is None else armed._profiler) != NULL
        # From 3.13 on (CHECKS_LATE) a stored exception may be raised one check too late, unless the thread's
        # instructions are watched. For that, no tracer, profiler or monitoring tool may run in between. Otherwise the
        # thread must be waiting in C code: it has not moved since the last interrupt and, where jumps can be followed,
        # is not at one.
        cdef bint has_not_moved = self._has_not_moved(frame)
        can_follow = can_follow and tracer_of(thread) == NULL and not has_profiler
        cdef Py_ssize_t jump = jump_at(frame) if CHECKS_LATE else -1
        cdef bint is_in_gap = jump >= 0 and is_gap(frame_code(frame), jump)
        cdef bint is_exact = can_follow or not CHECKS_LATE or has_not_moved and (jump < 0 or not can_watch)
        # At a call the thread's own profiler runs before the check: the exception would be raised in there, and CPython
        # would remove that profiler.
        if is_exact and not is_in_gap and not shares_ident(thread) and not (has_profiler and is_at_call(frame)) and (
            is_waiting(frame, base) or place == DELIVERS and is_safe(frame, base)
        ):
            if slot_of(thread) != NULL:
                return SLOT_BUSY
            self._disarm(thread)
            self._exception = exception
            self._token = token
            self._take_slot(thread)
            if can_follow:
                self._frame = frame
                self._raised_at = monotonic()
                self._watch(frame_code(frame))
            return RAISED
        if profiling_blocks(thread):
            self._disarm(thread)
            return PROTECTED
        if was_armed:
            if can_watch or not HAS_MONITORING:
                self._follow(thread, frame_of_loop(frame, base))
            return ARMED
        if armed is not None:  # another scope of the thread
            return PROTECTED
        cdef object argument = profiler_object_of(thread)
        self._exception = exception
        self._token = token
        self._base = base
        self._profiler = profiler_of(thread)
        if set_profiler(thread, raise_if_safe, argument) < 0:  # an audit hook has refused it
            PyErr_Clear()
            self._base = None
            return PROTECTED
        return ARMED

    cdef bint _has_not_moved(self, object frame) noexcept:
        """Return whether the thread is where the last interrupt found it, and record where it is now."""
        cdef Py_ssize_t offset = frame_offset(frame)
        cdef bint same = frame is self._frame and offset == self._offset
        self._frame = frame
        self._offset = offset
        return same

    cdef void _watch(self, object code) noexcept:
        """Watch the instructions of this code instead of the code watched so far; None: stop watching."""
        if HAS_MONITORING and code is not self._watched:  # without monitoring, _watched stays None
            before, self._watched = self._watched, code
            if before is not None:
                count_watchers(before, -1, 0)
            if code is not None:
                count_watchers(code, 1, 0)

    cdef void _follow(self, PyThreadState *thread, object frame) noexcept:
        """Raise the exception at the next jump backwards of this frame, too; None: stop following."""
        cdef object followed = frame_code(frame) if HAS_MONITORING and frame is not None else frame
        if followed is self._followed:
            return
        before, self._followed = self._followed, followed
        self._target = -1
        if HAS_MONITORING:
            if before is not None:
                count_watchers(before, 0, -1)
            if followed is not None:
                count_watchers(followed, 0, 1)
            return
        if before is not None:
            trace_instructions(before, False)
        cdef bint is_ours = tracer_of(thread) == trace_jumps
        if followed is not None and (is_ours or tracer_of(thread) == NULL):
            trace_instructions(followed, True)
            if not is_ours and set_tracer(thread, trace_jumps) < 0:  # an audit hook has refused it
                PyErr_Clear()
                trace_instructions(followed, False)
                self._followed = None
        elif is_ours and set_tracer(thread, NULL) < 0:
            PyErr_Clear()

    cdef int _raise_here(self, PyThreadState *thread) noexcept:
        """Raise the exception in a callback of the interpreter, on the scope's own thread."""
        self._disarm(thread)
        self._raised = True
        # Counts as not raised yet, as from the slot: before 3.12 the instance is made when the exception is caught, and
        # never if it is dropped before.
        self._owns_slot = True
        PyErr_SetNone(<PyObject *>self._token)
        return -1

    cdef bint _may_raise_in_loop(self, PyThreadState *thread):
        """Return whether the exception may be raised after a jump backwards, on the scope's own thread."""
        return not self._is_shielded() and is_safe_here(innermost_frame(thread), self._base)

    cdef void _disarm(self, PyThreadState *thread) noexcept:
        """Remove the profile function from the thread if it is this scope's, and stop watching and following."""
        self._frame = None
        self._watch(None)
        self._follow(thread, None)
        if self._base is None:
            return
        self._base = None
        if profiler_of(thread) != raise_if_safe:
            return
        if set_profiler(thread, self._profiler, profiler_object_of(thread)) < 0:
            PyErr_Clear()

    cdef void _open(self) noexcept:
        global innermost_scope
        self._thread = PyThreadState_Get()
        self._thread_id = PyThreadState_GetID(self._thread)
        self._base_field = frame_field(self._thread)
        if innermost_scope != NULL:
            self._outer = <Scope>innermost_scope
            self._outer._inner = self
        innermost_scope = <PyObject *>self
        self._state = OPEN

    cdef Scope _armed(self):
        """Return the scope whose profile function is on the thread: this scope, an outer or an inner one, or None."""
        cdef Scope scope = self
        while scope is not None and scope._base is None:
            scope = scope._outer
        if scope is None:
            scope = self._inner
            while scope is not None and scope._base is None:
                scope = scope._inner
        return scope

    cdef void _close(self) noexcept:
        global innermost_scope
        self._state = DONE  # from here on, no interrupt stores anything
        if self._owns_slot and slot_of(self._thread) == <PyObject *>self._token:
            self._absorb()
        self._disarm(self._thread)
        self._thread = NULL
        # Greenlets may close their scopes in any order, so this scope need not be the innermost.
        if self._inner is not None:
            self._inner._outer = self._outer
        else:
            innermost_scope = <PyObject *>self._outer if self._outer is not None else NULL
        if self._outer is not None:
            self._outer._inner = self._inner
        self._outer = self._inner = None

    cdef void _absorb(self) noexcept:
        """Raise the exception that has come too late in a Python function that does nothing, and drop it."""
        # Clearing the slot is not enough. Up to 3.12 the evaluation loops of all threads keep checking for an exception
        # until one is raised (UNSIGNAL_ASYNC_EXC in Python/ceval_gil.c), and on 3.11 a thread that is traced or
        # profiled never gets past that check (see profiling_blocks).
        cdef PyObject *result = PyObject_CallNoArgs(landing)
        if result != NULL:
            Py_DECREF(<object>result)
        elif not PyErr_ExceptionMatches(self._exception):
            # Another exception has replaced it in the meantime: that one is raised after the scope.
            PyThreadState_SetAsyncExc(ident_of(self._thread), <PyObject *>PyErr_Occurred())
        PyErr_Clear()

    cdef void _take_slot(self, PyThreadState *thread) noexcept:
        # The slot is empty: the tokens of the thread's other scopes have been raised, or overwritten.
        cdef Scope scope = self._outer
        while scope is not None:
            scope._give_up_slot()
            scope = scope._outer
        scope = self._inner
        while scope is not None:
            scope._give_up_slot()
            scope = scope._inner
        self._owns_slot = True
        self._raised = True
        PyThreadState_SetAsyncExc(ident_of(thread), <PyObject *>self._token)

    cdef void _give_up_slot(self) noexcept:
        """Let the next interrupt store the token again, if it has not been raised."""
        if self._owns_slot:
            self._raised = self._owns_slot = False
            self._watch(None)
            self._frame = None

    cdef bint _is_shielded(self) noexcept:
        cdef Scope scope = self
        while scope is not None:
            if scope._shields:
                return True
            scope = scope._inner
        return False

    cdef Scope _first_due(self):
        """Return the innermost scope, from this one outwards, whose waiting exception may now be raised; or None."""
        cdef Scope scope = self
        while scope is not None and not scope._shields:
            if scope._exception is not None and not scope._raised:
                return scope
            scope = scope._outer
        return None


include "_core/shield.pxi"
include "_worker/hooks.pxi"
