/* Access to the fields of CPython's thread states and frames, on each version from 3.10 to 3.15.
 *
 * It uses only fields of the public headers (cpython/pystate.h, cpython/frameobject.h, cpython/code.h) and exported
 * functions. These are not in the limited API, hence a build for each version. Everything here needs the GIL. */
#ifndef DRAMATIQ_ABORT_THREAD_STATE_H
#define DRAMATIQ_ABORT_THREAD_STATE_H

#include <Python.h>
#include <frameobject.h>
#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif

#if defined(_MSC_VER)
#define THREAD_LOCAL __declspec(thread)
#else
#define THREAD_LOCAL _Thread_local
#endif

#if PY_VERSION_HEX >= 0x030D0000
/* Exported by all versions, because _lsprof is built outside the interpreter; declared in an internal header. */
PyAPI_FUNC(int) _PyEval_SetProfile(PyThreadState *, Py_tracefunc, PyObject *);
#endif

/* Where a thread state keeps its innermost frame: an internal structure since 3.11, an object before. */
#if PY_VERSION_HEX >= 0x030D0000
#define FRAME_FIELD(thread) ((thread)->current_frame)
#elif PY_VERSION_HEX >= 0x030B0000
#define FRAME_FIELD(thread) ((thread)->cframe->current_frame)
#else
#define FRAME_FIELD(thread) ((thread)->frame)
#endif

static inline PyObject *slot_of(PyThreadState *thread) { return thread->async_exc; }
static inline unsigned long ident_of(PyThreadState *thread) { return thread->thread_id; }
static inline void *frame_field(PyThreadState *thread) { return (void *)FRAME_FIELD(thread); }
static inline Py_tracefunc profiler_of(PyThreadState *thread) { return thread->c_profilefunc; }
static inline Py_tracefunc tracer_of(PyThreadState *thread) { return thread->c_tracefunc; }
/* Whether the thread is inside its profile or trace function, which CPython removes if it raises anything. */
static inline int is_tracing(PyThreadState *thread) { return thread->tracing != 0; }

/* Make a blocking call of the thread check the slot: see _core/blocking_calls.py. 0 stands for no signal. */
static inline void send_signal(PyThreadState *thread, int number) {
#if defined(_WIN32)
    (void)thread, (void)number;
#else
    if (number != 0) {
        pthread_kill((pthread_t)ident_of(thread), number);
    }
#endif
}

static inline PyObject *object_or_none(void *object) {
    if (object == NULL) {
        Py_RETURN_NONE;
    }
    return (PyObject *)object;
}

/* The object that the thread's profile function is called with, or None; sys.getprofile() returns it. */
static inline PyObject *profiler_object_of(PyThreadState *thread) {
    PyObject *object = thread->c_profileobj;
    return Py_NewRef(object != NULL ? object : Py_None);
}

/* Install a profile function on the thread, or remove it (NULL). None as the object stands for no object. */
static inline int set_profiler(PyThreadState *thread, Py_tracefunc function, PyObject *object) {
    return _PyEval_SetProfile(thread, function, object != Py_None ? object : NULL);
}

/* Whether sys.monitoring can watch a code's jumps; before 3.12 a trace function sees the instructions of one frame. */
#define HAS_MONITORING (PY_VERSION_HEX >= 0x030C0000)

/* Install a trace function on the thread, or remove it (NULL); a negative result means that this failed. And have it
 * called before each instruction of one frame, or no longer. Neither runs Python code, except in an audit hook that is
 * written in Python. */
#if HAS_MONITORING
#define set_tracer(thread, function) (-1)
#define trace_instructions(frame, wanted) ((void)0)
#else
static inline int set_tracer(PyThreadState *thread, Py_tracefunc function) {
    return _PyEval_SetTrace(thread, function, NULL);
}
static inline void trace_instructions(PyObject *frame, int wanted) {
    if (PyObject_SetAttrString(frame, "f_trace_opcodes", wanted ? Py_True : Py_False) < 0) {
        PyErr_Clear();
    }
}
#endif

/* The innermost frame, as an object; None if the thread's greenlet runs no Python code. */
static inline PyObject *innermost_frame(PyThreadState *thread) {
    return object_or_none(PyThreadState_GetFrame(thread));
}

/* The frame that frame_field() returned earlier, as an object. It is not made earlier because that would cost each
 * call, with or without an interrupt; and the only public function that makes one starts from the thread state. */
static inline PyObject *frame_object(PyThreadState *thread, void *field) {
    void *now = frame_field(thread);
    FRAME_FIELD(thread) = field;
    PyObject *frame = innermost_frame(thread);
    FRAME_FIELD(thread) = now;
    return frame;
}

static inline PyObject *frame_back(PyObject *frame) { return object_or_none(PyFrame_GetBack((PyFrameObject *)frame)); }
static inline PyObject *frame_code(PyObject *frame) { return (PyObject *)PyFrame_GetCode((PyFrameObject *)frame); }
static inline PyObject *code_name(PyObject *code) { return Py_NewRef(((PyCodeObject *)code)->co_name); }

static inline int is_generator(PyObject *code) {
    return (((PyCodeObject *)code)->co_flags & (CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR)) != 0;
}

/* The name of the module in which the frame's function was defined, or None. */
static inline PyObject *frame_module(PyObject *frame) {
#if PY_VERSION_HEX >= 0x030B0000
    PyObject *globals = PyFrame_GetGlobals((PyFrameObject *)frame);
#else
    PyObject *globals = Py_NewRef(((PyFrameObject *)frame)->f_globals);
#endif
    static PyObject *key = NULL; /* made once: each inspection needs it for each frame */
    if (key == NULL) {
        key = PyUnicode_InternFromString("__name__");
    }
    PyObject *name = key != NULL && PyDict_CheckExact(globals) ? PyDict_GetItem(globals, key) : NULL;
    name = name != NULL && PyUnicode_CheckExact(name) ? Py_NewRef(name) : Py_NewRef(Py_None);
    Py_DECREF(globals);
    return name;
}

static inline PyObject *code_names(PyObject *code) { return Py_NewRef(((PyCodeObject *)code)->co_names); }

/* Whether a thread that has given up the GIL where it checks its slot does not check again when it gets the GIL back.
 * From 3.13 on it does not (_Py_HandlePending in Python/ceval_gil.c): an exception that was stored in the meantime is
 * raised at the next check. */
#define CHECKS_LATE (PY_VERSION_HEX >= 0x030D0000)

#if CHECKS_LATE
/* How the code's try and with statements cover an offset: the handler of an exception that is raised there, or -1; and
 * whether a covered part ends exactly there. No two parts cover the same instruction. */
typedef struct {
    int handler, ends;
} Cover;

static inline Cover cover_at(PyObject *code, Py_ssize_t offset) {
    Cover cover = {-1, 0};
    PyObject *table = ((PyCodeObject *)code)->co_exceptiontable;
    int at = (int)(offset / 2);
    const unsigned char *byte = (const unsigned char *)PyBytes_AS_STRING(table);
    const unsigned char *end = byte + PyBytes_GET_SIZE(table);
    while (byte < end) {
        /* Start, length, target and depth, each in groups of six bits (InternalDocs/exception_handling.md). */
        int numbers[4];
        for (int i = 0; i < 4; i++) {
            numbers[i] = *byte & 63;
            while (*byte++ & 64) {
                numbers[i] = numbers[i] << 6 | (*byte & 63);
            }
        }
        if (numbers[0] <= at && at < numbers[0] + numbers[1]) {
            cover.handler = numbers[2];
        }
        cover.ends |= at == numbers[0] + numbers[1];
    }
    return cover;
}
#endif

/* Whether a gap begins at this offset: the part that a try or with statement covers ends exactly there, and no other
 * part covers it. From 3.13 on the compiler leaves such gaps in the middle of a statement. */
static inline int is_gap(PyObject *code, Py_ssize_t offset) {
#if CHECKS_LATE
    Cover cover = cover_at(code, offset);
    return cover.ends && cover.handler < 0;
#else
    (void)code;
    (void)offset;
    return 0;
#endif
}

/* Whether an exception raised at the second offset goes to the same handler as one at the first, if that has one. It
 * may not: a call that returns can be followed by an instruction that only an outer statement covers, and a call that
 * fails is followed by the handler itself. */
static inline int is_covered_alike(PyObject *code, Py_ssize_t offset, Py_ssize_t later) {
#if CHECKS_LATE
    int handler = cover_at(code, offset).handler;
    return handler < 0 || handler == cover_at(code, later).handler;
#else
    (void)code;
    (void)offset;
    (void)later;
    return 1;
#endif
}

/* The frame's offset in its code, in bytes; negative before its first instruction, and for None. */
static inline Py_ssize_t frame_offset(PyObject *frame) {
    if (frame == Py_None) {
        return -1;
    }
#if PY_VERSION_HEX >= 0x030B0000
    return PyFrame_GetLasti((PyFrameObject *)frame);
#else
    return ((PyFrameObject *)frame)->f_lasti * 2;
#endif
}

/* The code's instructions as the compiler wrote them. */
static inline PyObject *code_bytes(PyObject *code) {
#if PY_VERSION_HEX >= 0x030B0000
    return PyCode_GetCode((PyCodeObject *)code);
#else
    return Py_NewRef(((PyCodeObject *)code)->co_code);
#endif
}

/* The thread, if it is still alive, else NULL. It can have ended while its scope is open, or be gone after a fork, and
 * its memory can belong to another thread by now. Ids are never reused. */
static inline PyThreadState *living(PyThreadState *wanted, uint64_t id) {
    PyThreadState *thread = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    while (thread != NULL && thread != wanted) {
        thread = PyThreadState_Next(thread);
    }
    return thread != NULL && PyThreadState_GetID(thread) == id ? thread : NULL;
}

/* Whether PyThreadState_SetAsyncExc, which finds a thread by its ident, could hit another thread. Up to 3.11 a thread
 * that is about to start has its starter's ident until it runs (thread_PyThread_start_new_thread in
 * Modules/_threadmodule.c). */
static inline int shares_ident(PyThreadState *thread) {
    PyThreadState *other = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    for (; other != NULL; other = PyThreadState_Next(other)) {
        if (other != thread && other->thread_id == thread->thread_id) {
            return 1;
        }
    }
    return 0;
}

/* Whether a profile function would block its thread. On 3.11 a thread that is traced or profiled does not get past a
 * function's entry while any other thread has an exception in its slot (DO_TRACING in Python/ceval.c: it checks the
 * slot, and starts the instruction again). That other thread may be waiting, perhaps for this very one. */
static inline int profiling_blocks(PyThreadState *thread) {
#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030C0000
    PyThreadState *other = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    for (; other != NULL; other = PyThreadState_Next(other)) {
        if (other != thread && other->async_exc != NULL) {
            return 1;
        }
    }
#else
    (void)thread;
#endif
    return 0;
}

/* Keep the garbage collector from running. Up to 3.11 creating an object can start a collection, which runs Python code
 * and so lets other threads move. */
#if PY_VERSION_HEX < 0x030C0000
static inline int hold_collector(void) { return PyGC_Disable(); }
static inline void release_collector(int was_on) { if (was_on) { PyGC_Enable(); } }
#else
static inline int hold_collector(void) { return 0; }
static inline void release_collector(int was_on) { (void)was_on; }
#endif

/* The innermost open scope of this thread. Borrowed: Scope.run holds a reference while the scope is open. */
static THREAD_LOCAL PyObject *innermost_scope = NULL;

#endif
