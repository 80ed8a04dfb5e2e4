"""The hooks of every message, as a part of ``_interrupt.pyx``. ``_worker/hooks_py.py`` documents each name."""

# Each step here runs once per message. All of dramatiq's own steps come before the next message, so nothing is left in
# the processor's caches, and a step takes several times as long as in a loop. The hooks therefore take as few steps as
# possible, and keep little of a completed message, because what is kept has to be loaded again, too.

from cpython.contextvars cimport PyContextVar_Set, get_value
from cpython.float cimport PyFloat_AsDouble
from cpython.pythread cimport PyThread_get_thread_ident
from libc.math cimport NAN, isnan

import inspect
import threading
from functools import update_wrapper
from types import BuiltinFunctionType

#: How many completed messages are remembered.
cdef enum:
    MOST_COMPLETED = 1000

#: Longer ids, which dramatiq does not generate, take the slow path.
cdef enum:
    LONGEST_USUAL_ID = 100


cdef class BaseExecution:
    """The attributes of every execution."""

    cdef readonly object message
    cdef public object proxy
    cdef readonly object actor_name
    cdef public object outer
    cdef public unsigned long thread_id
    cdef public object scope
    cdef readonly double started
    cdef public object runtime
    cdef public object ended
    cdef public object request
    cdef public object declined
    cdef public bint is_inside
    cdef public bint has_begun
    #: The attributes that only some executions have.
    cdef dict __dict__

    def __init__(self, message, scope):
        self._begin(message, scope)

    cdef int _begin(self, object message, object scope) except -1:
        self.message = message
        self.actor_name = message.actor_name
        self.scope = scope
        self.started = monotonic()


cdef BaseExecution new_execution(type kind, object message, object scope):
    """Create an execution without calling its class, which has no other ``__init__``."""
    cdef tuple nothing = ()
    cdef BaseExecution new = <BaseExecution>(<PyTypeObject *>kind).tp_new(kind, <PyObject *>nothing, NULL)
    new._begin(message, scope)
    return new


@cython.final
cdef class MessageHooks:
    """The hooks that dramatiq calls before and after it processes a message."""

    cdef readonly dict by_id
    cdef readonly dict redelivered
    cdef public object backend
    cdef object _slow_path
    cdef object _current
    cdef type _kind
    cdef object _new_scope
    cdef object _get_ident
    cdef set _slow_path_actors
    cdef bint _all_need_slow_path
    # A ring buffer of the completed messages, one list or array for each attribute.
    cdef list _ids
    cdef list _actors
    cdef list _queues
    cdef double[MOST_COMPLETED] _enqueued
    cdef double[MOST_COMPLETED] _started
    cdef double[MOST_COMPLETED] _ended
    cdef Py_ssize_t _next

    def __init__(self, slow_path, current, type kind, new_scope, *, set slow_path_actors, bint all_need_slow_path):
        self.by_id = {}
        self.redelivered = {}
        self._slow_path = slow_path
        self._current = current
        self._kind = kind
        self._new_scope = new_scope
        # gevent replaces get_ident() to return the greenlet's. CPython's own is read without a call.
        get_ident = threading.get_ident
        self._get_ident = None if type(get_ident) is BuiltinFunctionType else get_ident
        self._slow_path_actors = slow_path_actors
        self._all_need_slow_path = all_need_slow_path
        self._ids = [None] * MOST_COMPLETED
        self._actors = [None] * MOST_COMPLETED
        self._queues = [None] * MOST_COMPLETED

    def before_process_message(self, broker, message):
        plain = getattr(message, "_message", message)  # the proxy's own attribute look-up is slow
        message_id = plain.message_id
        cdef BaseExecution execution
        if self._needs_slow_path(plain, message_id):
            execution = self._slow_path.begin_slowly(plain)
            if execution is None:
                return
        else:
            scope = Scope.__new__(Scope) if self._new_scope is Scope else self._new_scope()
            execution = new_execution(self._kind, plain, scope)
        execution.runtime = self._slow_path
        execution.proxy = message
        execution.outer = get_value(self._current)
        if self._get_ident is None:
            execution.thread_id = PyThread_get_thread_ident()
        else:
            execution.thread_id = self._get_ident()
        # First the table, then the check: the watcher hands out a request that is made in between.
        if self.by_id.setdefault(message_id, execution) is not execution:
            self.redelivered[execution] = None
        PyContextVar_Set(self._current, execution)
        if self.backend is not None and not execution.started < self.backend.no_events_before:
            self._slow_path.skip_if_requested(message, execution)

    def after_process_message(self, broker, message, *, result=None, exception=None):
        cdef BaseExecution execution = self._leave(message)
        cdef bint has_completed = exception is None
        try:
            if exception is not None:
                self._slow_path.note_failure(message, execution, exception)
            elif execution is not None and not execution.has_begun:
                has_completed = not getattr(message, "failed", False)
                if has_completed:
                    self._slow_path.note_uncalled(execution)
                else:
                    self._slow_path.note_skip(execution)
        finally:
            if execution is not None:
                self._finish(execution, has_completed)

    def after_skip_message(self, broker, message):
        cdef BaseExecution execution = self._leave(message)
        if execution is not None:
            self._slow_path.note_skip(execution)
            self._finish(execution, False)

    def completed(self, str message_id not None):
        cdef Py_ssize_t at = self._next
        for _ in range(MOST_COMPLETED):
            at = (at or MOST_COMPLETED) - 1
            if self._ids[at] == message_id:
                enqueued = None if isnan(self._enqueued[at]) else self._enqueued[at]
                return message_id, self._actors[at], self._queues[at], enqueued, self._started[at], self._ended[at]
        return None

    def completed_ids(self):
        return [message_id for message_id in self._ids if message_id is not None]

    cdef bint _needs_slow_path(self, object plain, object message_id) except -1:
        if self._all_need_slow_path or plain.actor_name in self._slow_path_actors:
            return True
        if "abortable" in plain.options:
            return True
        return (
            type(message_id) is not str
            or not (<str>message_id).isascii()
            or not 0 < len(<str>message_id) <= LONGEST_USUAL_ID
        )

    cdef BaseExecution _leave(self, object message):
        cdef BaseExecution execution = get_value(self._current)
        if execution is not None and execution.proxy is not message:
            execution = self._unwind(execution, message)
        cdef BaseExecution outer
        if execution is not None:
            outer = execution.outer
            while outer is not None and outer.ended is not None:
                outer = outer.outer
            PyContextVar_Set(self._current, outer)
        return execution

    cdef BaseExecution _unwind(self, BaseExecution innermost, object message):
        plain = getattr(message, "_message", message)
        cdef BaseExecution execution = innermost
        while execution is not None and not (execution.proxy is message or execution.message is plain):
            execution = execution.outer
        if execution is not None:
            while innermost is not execution:
                self._finish(innermost, False)
                innermost = innermost.outer
        return execution

    cdef int _finish(self, BaseExecution execution, bint has_completed) except -1:
        execution.ended = ended = monotonic()
        plain = execution.message
        message_id = plain.message_id
        if has_completed:
            self._remember(plain, message_id, execution, ended)
        if not self.redelivered or self.by_id.get(message_id) is execution:
            del self.by_id[message_id]
        else:
            self.redelivered.pop(execution, None)
        # A request that arrives from now on finds the message over.
        if execution.request is not None or execution.declined is not None:
            self._slow_path.report_outcome(execution)

    cdef int _remember(self, object plain, object message_id, BaseExecution execution, double ended) except -1:
        # First attributes that a subclass of Message may compute in Python: after them, no other thread gets a turn.
        queue_name = plain.queue_name
        cdef double enqueued = timestamp_of(plain.message_timestamp)
        cdef Py_ssize_t at = self._next
        cdef Py_ssize_t before = (at or MOST_COMPLETED) - 1
        self._ids[at] = message_id
        self._actors[at] = shared_name(self._actors[before], execution.actor_name)
        self._queues[at] = shared_name(self._queues[before], queue_name)
        self._enqueued[at] = enqueued
        self._started[at] = execution.started
        self._ended[at] = ended
        self._next = (at + 1) % MOST_COMPLETED


cdef object shared_name(object before, object name):
    """Return the previous string if it equals the name, because each message has its own copy."""
    return before if type(name) is str and type(before) is str and before == name else name


cdef double timestamp_of(object value) noexcept:
    """Return a message's timestamp, which may be anything, as a number, or NAN if it is not one."""
    if type(value) is not int and type(value) is not float:
        return NAN
    try:
        return PyFloat_AsDouble(value)
    except OverflowError:
        return NAN


@cython.final
cdef class ScopedCall:
    """An actor's function: the call for a message runs in that message's scope, any other is a plain call."""

    cdef object _function
    cdef object _actor_name
    cdef object _current
    cdef object _calls
    cdef dict __dict__
    cdef object __weakref__

    def __init__(self, function, actor_name, current, calls):
        self._function = function
        self._actor_name = actor_name
        self._current = current
        self._calls = calls
        update_wrapper(self, function)

    def __call__(self, *args, **kwargs):
        cdef BaseExecution before = get_value(self._current)
        cdef BaseExecution execution = before
        if execution is None or execution.has_begun or execution.actor_name != self._actor_name:
            if execution is not None and execution.is_inside:
                return self._function(*args, **kwargs)
            execution = self._calls.message_of(self._function, execution)
            if execution is None:
                return self._function(*args, **kwargs)
            PyContextVar_Set(self._current, execution)
        execution.has_begun = execution.is_inside = True
        scope = execution.scope  # kept alive here: while a coroutine runs, execution.scope is another one
        try:
            if type(scope) is Scope:
                return (<Scope>scope)._call(self._function, args, kwargs)
            return scope.run(self._function, args, kwargs)
        except BaseException as error:
            self._calls.failed(execution, error)
            raise
        finally:
            execution.is_inside = False
            if execution is not before:
                PyContextVar_Set(self._current, before)

    @property
    def __signature__(self):
        return inspect.signature(self._function)

    def __repr__(self):
        return repr(self._function)
