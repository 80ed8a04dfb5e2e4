"""A part of ``_interrupt.pyx``: the rules of ``_core/safe_points.py``, applied without running Python code."""

import sys
from types import FunctionType, MethodType

from dramatiq_abort._core.greenlet_stacks import HUBS
from dramatiq_abort._core.protected_code import ANY, PROTECTED_FUNCTIONS
from dramatiq_abort._core.safe_points import (
    CALLBACK_NAMES,
    CALLBACKS,
    COLLECTORS_CALLBACKS,
    START_OF_THREAD,
    WAITS,
    _named,
    _protected,
    _users,
)

cdef list callbacks = CALLBACKS
cdef list collectors_callbacks = COLLECTORS_CALLBACKS
cdef frozenset callback_names = CALLBACK_NAMES
cdef frozenset protected_functions = PROTECTED_FUNCTIONS
cdef tuple waits = tuple(WAITS.items())
cdef set protected_modules = _protected
cdef set users_modules = _users
cdef dict named_functions = _named
cdef str any_call = ANY
cdef object start_of_thread = START_OF_THREAD
cdef frozenset hubs = HUBS
cdef dict modules = sys.modules


cdef bint is_among(set modules, str module):
    """Return whether a module, or a package it is in, is in ``modules``. Runs no Python code."""
    cdef Py_ssize_t dot
    while module not in modules:
        dot = module.rfind(".")
        if dot < 0:
            return False
        module = module[:dot]
    return True


cdef enum Stack:
    #: An exception may be raised.
    SAFE
    #: The frames do not lead to the scope's own: the thread has switched to another greenlet.
    CUT_OFF
    #: One of the frames runs protected code.
    MUST_STAY


cdef Stack inspect_stack(object frame, object base):
    """Inspect the frames from this one up to the scope's own, and return what they allow.

    Runs no Python code, so no thread moves in the meantime.
    """
    cdef object called = None
    while frame is not base:
        if frame is None:
            return CUT_OFF
        if must_stay(frame, called):
            return MUST_STAY
        called = frame_code(frame)
        frame = frame_back(frame)
    return SAFE


cdef bint must_stay(object frame, object called):
    """Return whether the function in this frame is protected.

    Parameters:
      called: The code that the function has called, or None.
    """
    cdef object code = frame_code(frame)
    if PySet_Contains(protected_functions, code_name(code)) or is_collectors_callback(code):
        return True
    cdef object module = frame_module(frame)
    return module is not None and (is_among(protected_modules, module) or is_named(code, module, called))


cdef bint is_safe(object frame, object base):
    """Return whether none of the frames from this one up to the scope's own runs protected code."""
    return inspect_stack(frame, base) == SAFE


cdef bint is_safe_here(object frame, object base):
    """Return the same for the current thread, which sees across its greenlets: see ``_core/greenlet_stacks.py``."""
    cdef Stack found = inspect_stack(frame, base)
    if found != CUT_OFF:
        return found == SAFE
    cdef object called
    for frame in [frame, *frames_of_parents()]:
        called = None
        while frame is not None and frame is not base:
            if must_stay(frame, called) or frame_module(frame) in hubs:
                return False
            called = frame_code(frame)
            frame = frame_back(frame)
        if frame is not None:
            return True
    return False


cdef list frames_of_parents():
    """Do the same as ``greenlet_stacks.frames_of_parents``."""
    cdef list frames = []
    greenlets = modules.get("greenlet")
    if greenlets is not None:
        greenlet = greenlets.getcurrent().parent
        while greenlet is not None:
            frames.append(greenlet.gr_frame)
            greenlet = greenlet.parent
    return frames


cdef object frame_of_loop(object frame, object base):
    """Return the innermost frame, from this one up to the scope's own, in which an exception may be raised; or None."""
    cdef object found = None, called = None
    while frame is not None and frame is not base:
        if must_stay(frame, called):
            found = None
        elif found is None and not must_stay(frame, None):
            found = frame
        called = frame_code(frame)
        frame = frame_back(frame)
    return found


cdef bint is_named(object code, object module, object called):
    """Do the same as ``safe_points._is_named``."""
    cdef dict names = named_functions.get(module)
    cdef object cut_in = None if names is None else names.get(code_name(code))
    if cut_in is None or called is None:
        return cut_in is not None
    return not (PySet_Contains(cut_in, code_name(called)) or PySet_Contains(cut_in, any_call))


cdef bint is_waiting(object frame, object base):
    """Return whether the thread with this innermost frame is in protected code, but in a wait that is a safe point."""
    if frame is None:
        return False
    cdef object code = frame_code(frame)
    cdef tuple wait
    for wait in waits:
        if wait[0] is code:
            return frame_offset(frame) in wait[1] and not is_handed_over(frame, base)
    return False


cdef bint is_handed_over(object frame, object base):
    """Return whether an exception raised in this wait would lose what the thread is waiting for.

    Does the same as ``safe_points.is_handed_over`` for the frames from this one up to the scope's own.
    """
    cdef object module, code, called = None
    while frame is not None and frame is not base:
        code = frame_code(frame)
        if code is start_of_thread or code_name(code) in protected_functions:
            return True
        module = frame_module(frame)
        if users_modules and module is not None and is_among(users_modules, module):
            return True
        if module is not None and is_named(code, module, called):
            return True
        called = code
        frame = frame_back(frame)
    return frame is not base  # the wait belongs to another greenlet


cdef bint is_callback(object code):
    """Return whether this function is called by C code that drops an exception, even one raised at its return."""
    for callback in callbacks:
        if callback is code:
            return True
    return code_name(code) in callback_names or is_collectors_callback(code)


cdef bint is_collectors_callback(object code):
    """Do the same as ``safe_points._is_collectors_callback``."""
    for callback in collectors_callbacks:
        function = callback.__func__ if type(callback) is MethodType else callback
        if type(function) is FunctionType and function.__code__ is code:
            return True
    return False


def _rules_of(frame, called=None):
    """Return the answers of ``must_stay`` and ``is_handed_over``, for the test that compares both cores."""
    return must_stay(frame, called), is_handed_over(frame, None)
