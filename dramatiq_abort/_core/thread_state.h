/* What _interrupt.pyx reads of CPython's thread states and frames, on each version from 3.10 to 3.15.
 *
 * Only fields of the public headers (cpython/pystate.h, cpython/frameobject.h, cpython/code.h) and exported functions;
 * not the limited API, hence a build for each version. All of it needs the GIL. */
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
/* Exported by all versions, since _lsprof is built outside of the interpreter; declared in an internal header. */
PyAPI_FUNC(int) _PyEval_SetProfile(PyThreadState *, Py_tracefunc, PyObject *);
#endif

/* Where a thread state keeps its innermost frame: a structure of the interpreter's since 3.11, an object before. */
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
/* Whether the thread is inside of its profile or trace function, which CPython drops if it raises anything. */
static inline int is_tracing(PyThreadState *thread) { return thread->tracing != 0; }

/* Make a call that the thread may be waiting in look at its slot: see _core/blocking_calls.py. 0: there is no such signal. */
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

/* What the thread's profile function is called with, or None; and what sys.getprofile() gives out. */
static inline PyObject *profiler_object_of(PyThreadState *thread) {
    PyObject *object = thread->c_profileobj;
    return Py_NewRef(object != NULL ? object : Py_None);
}

/* Put a profile function on the thread, or take it off (NULL); with None as its object there is none. */
static inline int set_profiler(PyThreadState *thread, Py_tracefunc function, PyObject *object) {
    return _PyEval_SetProfile(thread, function, object != Py_None ? object : NULL);
}

/* Whether a code's jumps can be watched by sys.monitoring; before, a trace function sees the instructions of one frame. */
#define HAS_MONITORING (PY_VERSION_HEX >= 0x030C0000)

/* Put a trace function on the thread, or take it off (NULL), and say whether that was done; and have it called before
 * each instruction of one frame, or not any more. Neither runs Python code, unless an audit hook is written in it. */
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

/* The innermost frame, as an object; None where the thread's greenlet runs no Python code. */
static inline PyObject *innermost_frame(PyThreadState *thread) {
    return object_or_none(PyThreadState_GetFrame(thread));
}

/* The frame that frame_field() gave earlier, as an object. Making the object is left until somebody asks, because it
 * would cost each call that nobody interrupts; and the only public way to make one starts from the thread state. */
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

/* The name of the module that the frame's function was defined in, or None. */
static inline PyObject *frame_module(PyObject *frame) {
#if PY_VERSION_HEX >= 0x030B0000
    PyObject *globals = PyFrame_GetGlobals((PyFrameObject *)frame);
#else
    PyObject *globals = Py_NewRef(((PyFrameObject *)frame)->f_globals);
#endif
    static PyObject *key = NULL; /* made once: each look asks this of each frame */
    if (key == NULL) {
        key = PyUnicode_InternFromString("__name__");
    }
    PyObject *name = key != NULL && PyDict_CheckExact(globals) ? PyDict_GetItem(globals, key) : NULL;
    name = name != NULL && PyUnicode_CheckExact(name) ? Py_NewRef(name) : Py_NewRef(Py_None);
    Py_DECREF(globals);
    return name;
}

static inline PyObject *code_names(PyObject *code) { return Py_NewRef(((PyCodeObject *)code)->co_names); }

/* Whether a thread that has given up the GIL where it looks at its slot does not look again when it gets the GIL back:
 * from 3.13 on (_Py_HandlePending in Python/ceval_gil.c), what is put there meanwhile comes up at the next look. */
#define LOOKS_LATE (PY_VERSION_HEX >= 0x030D0000)

#if LOOKS_LATE
/* What the code's try and with statements cover there: where the handler is for what is raised at this offset, or -1;
 * and whether a part that one of them covers ends exactly there. No two parts cover the same instruction. */
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

/* Whether what the code's try and with statements cover has a gap that begins at this offset: the part that one of them
 * covers ends exactly there. From 3.13 on the compiler leaves such gaps in the middle of a statement. */
static inline int is_gap(PyObject *code, Py_ssize_t offset) {
#if LOOKS_LATE
    Cover cover = cover_at(code, offset);
    return cover.ends && cover.handler < 0;
#else
    (void)code;
    (void)offset;
    return 0;
#endif
}

/* Whether what is raised at the second offset goes to the same handler as at the first, if that has one. It may not: a
 * call that returns can be followed by an instruction that only an outer statement covers, and one that fails by the
 * handler itself. */
static inline int is_covered_alike(PyObject *code, Py_ssize_t offset, Py_ssize_t later) {
#if LOOKS_LATE
    int handler = cover_at(code, offset).handler;
    return handler < 0 || handler == cover_at(code, later).handler;
#else
    (void)code;
    (void)offset;
    (void)later;
    return 1;
#endif
}

/* Where the frame is in its code, in bytes; negative when it has not begun, and for None. */
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

/* The thread, if it is still alive: it can have ended, or be gone after a fork, while its scope is open, and its memory
 * can be another thread's by now. Ids are never used twice. */
static inline PyThreadState *living(PyThreadState *wanted, uint64_t id) {
    PyThreadState *thread = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    while (thread != NULL && thread != wanted) {
        thread = PyThreadState_Next(thread);
    }
    return thread != NULL && PyThreadState_GetID(thread) == id ? thread : NULL;
}

/* Whether PyThreadState_SetAsyncExc, which goes by the ident, could hit another thread: up to 3.11 one that is about to
 * start has its starter's ident until it runs (thread_PyThread_start_new_thread in Modules/_threadmodule.c). */
static inline int shares_ident(PyThreadState *thread) {
    PyThreadState *other = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    for (; other != NULL; other = PyThreadState_Next(other)) {
        if (other != thread && other->thread_id == thread->thread_id) {
            return 1;
        }
    }
    return 0;
}

/* Whether a profile function would hold its thread up. On 3.11 a thread that is being traced or profiled does not get
 * past a function's entry as long as any other has an exception in its slot (DO_TRACING in Python/ceval.c: it looks at
 * the slot, and starts the instruction again); and that other one may be waiting, for this one even. */
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

/* Up to 3.11 the making of an object can start a collection, which runs Python code, and then other threads move. */
#if PY_VERSION_HEX < 0x030C0000
static inline int hold_collector(void) { return PyGC_Disable(); }
static inline void release_collector(int was_on) { if (was_on) { PyGC_Enable(); } }
#else
static inline int hold_collector(void) { return 0; }
static inline void release_collector(int was_on) { (void)was_on; }
#endif

/* The innermost open scope of this thread: borrowed, since Scope.run holds a reference while it is open. */
static THREAD_LOCAL PyObject *innermost_scope = NULL;

#endif
