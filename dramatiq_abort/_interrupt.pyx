# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, auto_pickle=False
# cython: boundscheck=False, wraparound=False
"""The compiled interrupt core: an exception raised from another thread, inside one function or not at all."""

# docs/internals.md tells the problem, the ways that do not work and what is done here, under "The exact window" and
# "Safe points". What the code must keep to:
#
# - No bytecode runs between the function's return and the closing of the scope. So opening, calling, closing and
#   clearing are one C function, ``Scope.run``.
# - No Python code runs from the first look at a scope's state, and at its thread's frames, to the setting of the slot:
#   the thread would get a turn. What takes Python to find out is found out before (``Scope.interrupt``, ``learn``).
#   Making an object may start the garbage collector, which runs Python code, up to 3.11 (``hold_collector``).
# - The slot is read before it is written, and cleared only while the exception in it came from this scope.
# - What goes into the slot is a class that stands for the exception's own (``token_for``). CPython asks it for an
#   instance when it raises it, so the scope knows that its exception has come up. One that is not in the slot any more
#   and has not come up has been overwritten, and is put there again.
# - A callback that runs in the target (``_core/profiling.pxi``, ``_core/monitoring.pxi``, ``_core/jumps.pxi``) looks again before it
#   raises, and takes itself off.
#
# What protects the fields
# ------------------------
#
# The GIL: no field is touched without it, and no method of a scope gives it up half way. Field by field, for builds
# without it:
#
# - ``_state``, ``_thread``, ``_thread_id``, ``_base_field``, ``_outer`` and ``_inner`` are written by the scope's own
#   thread and read by whoever interrupts; ``innermost_scope`` is each thread's own. A lock per scope would do.
# - ``_exception``, ``_raised``, ``_owns_slot``, ``_base``, ``_profiler``, ``_watched``, ``_shields`` (another thread
#   may leave one, or drop it) and what is known of the last look are written by both. The same lock would do, but the
#   closing would have to take it for each call.
# - The target's frames, its slot and its profile function are CPython's. Reading them needs a target that stands still,
#   and there is no such thing for extensions: only the interpreter can stop the others (``_PyEval_StopTheWorld``).
# - In the passage, ``by_id`` and ``again`` are dictionaries, on which each operation is one step, and what is kept of
#   those that have completed is written by whoever lets go of a message, in ``_keep_in_mind``, which runs no Python
#   code from the choice of a place there to its end. That would need a lock.
#
# So the module is not declared safe for free-threaded builds, which would switch the GIL on to import it: it is not
# built there (setup.py), and not imported where the GIL is off (interrupt.py). The profile function alone could do
# without: it runs in the target.

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

#: After how many seconds a thread that stands at one place waits in C code there, and not for its turn.
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


def come_up(token, *args):
    """Make the instance when a token is raised, in its thread: one of the class for which the token stands."""
    cdef Scope scope = <Scope>innermost_scope if innermost_scope != NULL else None
    while scope is not None and not (scope._owns_slot and scope._token is token):
        scope = scope._outer
    if scope is not None:
        scope._owns_slot = False
        scope._watch(None)
        scope._frame = None
    # Up to 3.11, CPython asks a second time, with the instance that it has got.
    return args[0] if args else token.__base__()


cdef object token_for(object exception):
    """Return the class that stands for an exception class in the slots of threads."""
    token = tokens.get(exception)
    if token is None:
        tokens[exception] = token = type(exception.__name__, (exception,), {"__new__": staticmethod(come_up)})
    return token


@cython.final
@cython.freelist(16)
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
    #: What has been put into the thread's slot for it.
    cdef object _token
    #: That has not come up yet.
    cdef bint _owns_slot
    #: Has been put into the slot, or raised by a shield or by the profile function: a scope does so once.
    cdef bint _raised
    #: The frame from which run() was called, as the thread state had it.
    cdef void *_base_field
    #: The same as an object, while the profile function is on the thread; else None.
    cdef object _base
    #: The profile function that the thread had before, meanwhile.
    cdef Py_tracefunc _profiler
    #: Where the last interrupt has found the thread.
    cdef object _frame
    cdef Py_ssize_t _offset
    #: When the exception has been put into the slot of a thread that may not look at once, in seconds.
    cdef double _raised_at
    #: The code of which every instruction is watched, meanwhile.
    cdef object _watched
    #: What is followed to its next jump backwards: a code or, before 3.12, a frame; and where the last one has led to,
    #: or the last instruction.
    cdef object _followed
    cdef Py_ssize_t _target

    def run(self, function, tuple args=(), dict kwargs=None):
        """Call ``function(*args, **kwargs)`` in this scope, and return what it returns.

        An interrupt raises its exception inside of the function or not at all: when the function has returned, or
        raised, nothing comes up any more. An interrupt that came before the opening is raised instead of the call.

        Raises:
          RuntimeError: When the scope has been run before.
        """
        return self._call(function, args, {} if kwargs is None else kwargs)

    def interrupt(self, exception not None):
        """Raise ``exception`` in the scope, from any thread, and answer what happened.

        The exception is raised once, however often this is called; but one that somebody else's has taken the place of
        before it came up is raised behind that one.

        Parameters:
          exception: A subclass of ``BaseException``. A class, since CPython makes the instance, in the target.

        Returns:
          Answer: ``RAISED``, ``WAITING``, ``ARMED``, ``PROTECTED``, ``TAKEN`` or ``CLOSED``.

        Raises:
          TypeError: When ``exception`` is not an exception class.
        """
        if not PyExceptionClass_Check(exception):
            raise TypeError(f"an exception class is needed to interrupt a scope, not {exception!r}")
        cdef object answer = None
        while answer is None:
            learn()
            answer = self._ask(exception)
        return answer

    cdef object _ask(self, object exception):
        """Answer an interrupt; None if ``learn`` is needed first."""
        # Both run Python code, and from the first look at the state on nothing may: the target would get a turn.
        cdef object token = token_for(exception)
        cdef int number = signal_number() if HAS_SIGNAL else 0
        cdef bint can_watch = HAS_MONITORING and monitoring_tool() is not None
        cdef bint can_follow = LOOKS_LATE and can_watch and not is_monitored()
        cdef object _held = self._frame  # what goes with it must not go before the end
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
                        self._watch(None)  # it waits in C code
                    send_signal(thread, number)  # the last one came before the call
                    return RAISED
                self._give_up_slot()  # it has been overwritten
            if self._is_shielded():
                self._exception = exception
                self._token = token  # what is armed comes up as that one, too
                return DEFERRED
            answer = self._interrupt(thread, exception, token, can_watch, can_follow)
            if answer is RAISED:
                send_signal(thread, number)
            return answer
        finally:
            release_collector(collector)

    def shield(self):
        """Return a context manager inside of which interrupts of this scope wait.

        Shields nest, and protect against the scopes around this one, too. What has been waiting is raised on the way
        out of the outermost one, with the exception that is leaving it, if any, as its context. In another thread
        than the scope's, and when the scope is not open, a shield does nothing.
        """
        return Shield(self)

    def rearm(self):
        """Let the scope be interrupted once more, after what was raised has come up, and say whether it may be.

        From any thread. Before that, and when nothing has been raised, there is nothing to be done.
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
        """Take back what has not been raised yet, from any thread, and say whether nothing has been."""
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
        """Mark the exception as raised, by the caller, who raises it in another way; say whether that is to be done.

        From any thread. Not when it has been raised already, behind a shield, or when the scope is not open. What has
        been armed is taken off.

        Parameters:
          frame: Where it is to come up, in a greenlet that waits: not if that must not be cut, or is not in the scope.
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
        """Whether its thread is behind a shield of this scope."""
        return self._shields > 0

    def is_here(self):
        """Say whether the caller is in this scope, on its thread."""
        return self._state == OPEN and self._thread == PyThreadState_Get()

    def frames(self):
        """Return the frames of the scope's thread, innermost last; none when the scope is not open."""
        cdef PyThreadState *thread = living(self._thread, self._thread_id) if self._state == OPEN else NULL
        return frames_from(None if thread == NULL else innermost_frame(thread))

    cdef object _call(self, object function, tuple args, dict kwargs):
        if self._state != NEW:
            raise RuntimeError("a scope runs one call: make a new Scope for each")
        if self._exception is not None:
            self._state = DONE
            self._raised = True
            raise self._exception
        self._open()
        try:
            return PyObject_Call(function, args, kwargs)
        finally:
            self._close()

    cdef object _interrupt(
        self, PyThreadState *thread, object exception, object token, bint can_watch, bint can_follow
    ):
        # From the look to the setting nothing may run Python code, or the target moves.
        cdef object base = frame_object(thread, self._base_field)
        cdef object frame = innermost_frame(thread)
        cdef Scope armed = self._armed()
        if armed is not None and profiler_of(thread) != raise_if_safe:
            armed._base = None  # somebody else's has taken the place of ours
            armed._watch(None)
            armed._follow(thread, None)
            armed = None
        cdef bint asked_before = armed is self
        if is_tracing(thread):
            return PROTECTED
        cdef Place place = place_of(frame)
        if place == UNLEARNED:
            self._frame = None  # the next look is no later one
            return None
        cdef bint has_profiler = (profiler_of(thread) if armed is None else armed._profiler) != NULL
        # A thread that looks late can be followed; but somebody's tracer or profiler would be in between. Or else it
        # must wait in C code, and so have stood for a while, and not at a jump.
        cdef bint has_stood = self._stands_where_it_stood(frame)
        can_follow = can_follow and tracer_of(thread) == NULL and not has_profiler
        cdef Py_ssize_t jump = jump_at(frame) if LOOKS_LATE else -1
        cdef bint is_in_gap = jump >= 0 and is_gap(frame_code(frame), jump)
        cdef bint is_exact = can_follow or not LOOKS_LATE or has_stood and (jump < 0 or not can_watch)
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
        if asked_before:
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
        if set_profiler(thread, raise_if_safe, argument) < 0:  # an audit hook forbids it
            PyErr_Clear()
            self._base = None
            return PROTECTED
        return ARMED

    cdef bint _stands_where_it_stood(self, object frame) noexcept:
        """Say whether the thread is where the last interrupt has found it, and remember where it is."""
        cdef Py_ssize_t offset = frame_offset(frame)
        cdef bint same = frame is self._frame and offset == self._offset
        self._frame = frame
        self._offset = offset
        return same

    cdef void _watch(self, object code) noexcept:
        """Watch the instructions of this code, and of no other any more; None: of none."""
        if HAS_MONITORING and code is not self._watched:  # else it is always None
            before, self._watched = self._watched, code
            if before is not None:
                count_watchers(before, -1, 0)
            if code is not None:
                count_watchers(code, 1, 0)

    cdef void _follow(self, PyThreadState *thread, object frame) noexcept:
        """Have the exception come up at the next jump backwards of this frame, too; None: of none any more."""
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
            if not is_ours and set_tracer(thread, trace_jumps) < 0:  # an audit hook forbids it
                PyErr_Clear()
                trace_instructions(followed, False)
                self._followed = None
        elif is_ours and set_tracer(thread, NULL) < 0:
            PyErr_Clear()

    cdef int _come_up(self, PyThreadState *thread) noexcept:
        """Raise the exception here, in what the interpreter calls on the scope's own thread."""
        self._disarm(thread)
        self._raised = True
        # As from the slot: before 3.12 the instance is made when it is caught, and not if it is dropped before.
        self._owns_slot = True
        PyErr_SetNone(<PyObject *>self._token)
        return -1

    cdef bint _may_come_up_in_loop(self, PyThreadState *thread):
        """Say whether the exception may come up behind a jump backwards, on the scope's own thread."""
        return not self._is_shielded() and is_safe_here(innermost_frame(thread), self._base)

    cdef void _disarm(self, PyThreadState *thread) noexcept:
        """Take the profile function off the thread, if it is this scope's, and watch nothing any more."""
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
        """Return the scope for which the profile function is on the thread, of this one's outer and inner ones."""
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
        self._state = DONE  # from here on, nothing comes any more
        if self._owns_slot and slot_of(self._thread) == <PyObject *>self._token:
            self._absorb()
        self._disarm(self._thread)
        self._thread = NULL
        # Greenlets may close their scopes in any order.
        if self._inner is not None:
            self._inner._outer = self._outer
        else:
            innermost_scope = <PyObject *>self._outer if self._outer is not None else NULL
        if self._outer is not None:
            self._outer._inner = self._inner
        self._outer = self._inner = None

    cdef void _absorb(self) noexcept:
        """Let the exception that has come too late come up here, in a Python function that does nothing."""
        # Emptying the slot would not do: up to 3.12 the evaluation loops of all threads go on looking for an exception
        # until one is raised (UNSIGNAL_ASYNC_EXC in Python/ceval_gil.c), and on 3.11 those that are being traced or
        # profiled never get past that look (see profiling_blocks).
        cdef PyObject *result = PyObject_CallNoArgs(landing)
        if result != NULL:
            Py_DECREF(<object>result)
        elif not PyErr_ExceptionMatches(self._exception):
            # Somebody else's has taken its place meanwhile: it comes up behind the scope.
            PyThreadState_SetAsyncExc(ident_of(self._thread), <PyObject *>PyErr_Occurred())
        PyErr_Clear()

    cdef void _take_slot(self, PyThreadState *thread) noexcept:
        # The slot is empty: what the thread's other scopes had put there has come up, or been overwritten.
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
        """Raise what has not come up once more, when that is asked for."""
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
        """Of this scope and those around it, the first with an exception that waits and may now be raised."""
        cdef Scope scope = self
        while scope is not None and not scope._shields:
            if scope._exception is not None and not scope._raised:
                return scope
            scope = scope._outer
        return None


include "_core/shield.pxi"
include "_worker/hooks.pxi"
