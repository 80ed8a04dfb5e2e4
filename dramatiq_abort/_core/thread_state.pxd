"""The declarations of ``_core/thread_state.h``, and of the parts of CPython's headers that it includes."""

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

cdef extern from "_core/thread_state.h":
    ctypedef struct PyThreadState:
        pass
    ctypedef struct PyFrameObject:
        pass
    ctypedef int (*Py_tracefunc)(PyObject *, PyFrameObject *, int, PyObject *) noexcept
    enum:
        PyTrace_CALL
        PyTrace_RETURN
        PyTrace_C_CALL
        PyTrace_C_RETURN
        PyTrace_OPCODE
    PyObject *innermost_scope
    PyThreadState *living(PyThreadState *, uint64_t) noexcept
    PyThreadState *PyThreadState_Get() noexcept
    PyObject *slot_of(PyThreadState *) noexcept
    unsigned long ident_of(PyThreadState *) noexcept
    void send_signal(PyThreadState *, int) noexcept
    uint64_t PyThreadState_GetID(PyThreadState *) noexcept
    int PyThreadState_SetAsyncExc(unsigned long, PyObject *) noexcept
    void *frame_field(PyThreadState *) noexcept
    object innermost_frame(PyThreadState *)
    object frame_object(PyThreadState *, void *)
    object frame_back(object)
    object frame_code(object)
    object frame_module(object)
    object code_name(object)
    object code_names(object)
    bint is_generator(object) noexcept
    Py_ssize_t frame_offset(object) noexcept
    object code_bytes(object)
    Py_tracefunc tracer_of(PyThreadState *) noexcept
    bint HAS_MONITORING
    int set_tracer(PyThreadState *, Py_tracefunc) noexcept
    void trace_instructions(object, bint) noexcept
    bint is_tracing(PyThreadState *) noexcept
    bint shares_ident(PyThreadState *) noexcept
    bint profiling_blocks(PyThreadState *) noexcept
    bint CHECKS_LATE
    bint is_gap(object, Py_ssize_t) noexcept
    bint is_covered_alike(object, Py_ssize_t, Py_ssize_t) noexcept
    Py_tracefunc profiler_of(PyThreadState *) noexcept
    object profiler_object_of(PyThreadState *)
    int set_profiler(PyThreadState *, Py_tracefunc, object) noexcept
    int hold_collector() noexcept
    void release_collector(int) noexcept
    bint PyExceptionClass_Check(object) noexcept
    void PyErr_SetNone(PyObject *) noexcept
    void PyErr_Clear() noexcept
    bint PyErr_ExceptionMatches(object) noexcept
    PyObject *PyErr_Occurred() noexcept
    PyObject *PyObject_CallNoArgs(object) noexcept
