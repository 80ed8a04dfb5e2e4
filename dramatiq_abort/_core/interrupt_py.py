"""The interrupt core in pure Python: the same names and rules as ``_interrupt.pyx``. See also docs/internals.md.

Every step of this core is bytecode, so an exception that comes late can be raised while a scope closes. Three things
together make up for it:

- **The gate.** Its states form a chain: each has room for one successor. The first thread to put one there, with
  ``dict.setdefault``, which is atomic, has changed the state. Interrupts, shields and the closing of the scope all do
  this, and each sees whether it was first. If the closing was first, nothing can be raised any more. If an interrupt
  was first, exactly one exception comes, and the closing waits for it and absorbs it.
- **The box.** The function is called by a ``defaultdict`` that looks up a missing key, so that only C code runs between
  its return and the moment when its result is safe. A plain call would lose the result to an exception that is raised
  right after it.
- **One at a time.** At most one exception of a scope is ever pending, because a second one could not be told from it.

Like the compiled core (see there), this one inspects before it raises: it walks the target's frames, and raises nothing
while protected code is on the stack. Between the inspection and the raise it executes many bytecodes, and the target
must not get its turn in between. Both are therefore done at the beginning of a turn: CPython lets a thread that has
just got the GIL keep it for a switch interval, which must not be too short in the meantime. The operating system can
take the processor from this thread for just as long, so the last step before the raise reads the clock: if the turn may
be over, nothing is raised. Two gaps remain: the processor can be taken away after the clock is read, within some 3
microseconds; and from 3.13 on a target that resumes does not check its slot at once. Where nothing may be raised, the
result is ``PROTECTED``, and the caller must ask again.

A thread in a loop may never be found at a safe point, however often it is asked. From 3.12 on its next jump backwards
is one (``jumps.py``). Before 3.12 the exception goes into its slot if the thread is certain to check that before it
gets into another function's code. A loop in which every call ends with an exception from protected code is not
interrupted there, with one exception: a loop that enqueues messages follows itself (``Scope.follow_itself``).

Without the GIL the target never stands still, and reading the frames of a running thread crashes the interpreter.
There, this core inspects only its own thread, and an exception that another thread raises knows no safe points. The
gate needs no GIL: the exception is raised inside the function or not at all there, too.

On 3.12 a late exception can be raised before the function's own exception is safe, and takes its place.

Limitations: this core cannot read the thread's slot, so it overwrites an exception that is already there, and of two
scopes on one thread that are interrupted at the same moment, one can lose its exception. It never returns
``SLOT_BUSY``. It does not know which scopes nest: an inner scope's shield does not delay an exception for an outer
scope, nor does protected code around the inner one. Where ``PyThreadState_SetAsyncExc`` does not exist (PyPy), only an
exception that waits for a shield or for the opening of its scope is raised, and the result of any other interrupt is
``UNSUPPORTED``.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import platform
import signal
import sys
import threading
import time
from collections import defaultdict
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from . import jumps
from .blocking_calls import signal_number
from .bytecode import delivers, leads_to_delivery
from .frames import frames_from
from .gil import GIL_IS_ON
from .greenlet_stacks import frames_of_parents, is_hub
from .result import InterruptResult
from .safe_points import WAITS, is_handed_over, may_be_cut, must_stay
from .shield import AnyShield, ShieldInPython

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType, TracebackType

__all__ = ["SUPPORTED", "Scope"]

_R = TypeVar("_R")

#: Whether this interpreter can raise an exception in another thread.
SUPPORTED: Final = platform.python_implementation() == "CPython"


#: The shortest switch interval, in seconds, that leaves time for an inspection and the raise.
_SHORTEST_TURN: Final = 0.005

#: How old an inspection may be, in seconds, to be certain that the turn is still the same.
_SURE: Final = 0.004

#: Flags of functions whose frames are left where they yield.
_GENERATORS: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

#: Held by the thread that is interrupting, because the switch interval applies to all threads.
_interrupting = threading.Lock()


def _renew_lock() -> None:
    """Replace the lock after a fork: the thread that held it may be gone."""
    global _interrupting  # noqa: PLW0603
    _interrupting = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_lock)


class _Gate(dict[None, "_Gate"]):
    """One state of a scope's gate, with room for its successor (see the top of this module)."""

    __slots__ = ("is_closed", "is_on_its_way", "is_shut", "is_spent")

    def __init__(self, *, is_shut: bool = False, is_spent: bool = False, is_closed: bool = False) -> None:
        #: Interrupts wait: the scope is not open yet, or inside a shield.
        self.is_shut = is_shut
        #: An exception has been raised, or is about to be.
        self.is_spent = is_spent
        #: Nothing can be raised any more.
        self.is_closed = is_closed
        #: That exception is not in the thread's slot yet.
        self.is_on_its_way = False

    def result(self) -> InterruptResult | None:
        """Return the result of an interrupt in this state; None if it may raise."""
        if self.is_closed:
            return InterruptResult.CLOSED
        if self.is_spent:
            return InterruptResult.RAISED
        return InterruptResult.DEFERRED if self.is_shut else None

    def last(self) -> _Gate:
        """Return the last state of the chain."""
        gate = self
        while None in gate:
            gate = gate[None]
        return gate

    def becomes(self, following: _Gate) -> bool:
        """Make that state the successor of this one, unless it has one already; return whether this was done."""
        return self.setdefault(None, following) is following


class Scope:
    """The part of a thread's execution in which another thread may raise an exception: one call of a function.

    A scope runs one callable, once.
    """

    __slots__ = ("_exception", "_followed", "_found", "_gate", "_opened", "_shields", "_thread_id")

    def __init__(self) -> None:
        self._gate = _Gate(is_shut=True)  # the last state, or one before it
        self._exception: type[BaseException] | None = None
        self._opened = False
        self._shields = 0
        self._thread_id = 0
        #: The id of the frame in which the last inspection found the thread at no safe point.
        self._found = 0
        #: The code whose jumps are followed, or None.
        self._followed: CodeType | None = None

    def run(
        self,
        function: Callable[..., _R],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> _R:
        """Call ``function(*args, **kwargs)`` in this scope, and return what it returns.

        An interrupt raises its exception inside the function or not at all: once the function has returned or raised,
        nothing more is raised. An interrupt that came before the scope opened is raised instead of the call.

        Raises:
          RuntimeError: If the scope has been run before.
        """
        if self._opened:
            raise RuntimeError("this scope has been run before: make a new Scope for each call")
        box: defaultdict[None, _R] = defaultdict(partial(function, *args, **(kwargs or {})))
        error: BaseException | None = None
        try:
            try:
                self._opened = True
                self._thread_id = threading.get_ident()
                self._open_gate()
                box[None]  # calls the function
            except BaseException as raised:  # noqa: BLE001 - raised again below, after the closing
                error = raised
        except BaseException as late:  # noqa: BLE001 - raised at the beginning of the handler above
            error = late.__context__ if late.__context__ and type(late) is self._exception else late
        is_closed = False
        while not is_closed:
            try:
                self._set_gate(is_closed=True)
                is_closed = True
            except BaseException as late:  # noqa: BLE001 - see the next line
                # Our exception came after the function's end and is absorbed; any other must not be swallowed.
                if type(late) is not self._exception:
                    late.__context__ = error
                    error = late
        self._follow(None)
        if error is None or (box and type(error) is self._exception):
            return box[None]
        try:
            raise error
        finally:
            del error

    def interrupt(self, exception: type[BaseException]) -> InterruptResult:
        """Raise ``exception`` in the scope, and return what became of it. Can be called from any thread.

        The exception is raised once, however often this is called.

        Parameters:
          exception: A subclass of ``BaseException``. A class, because CPython makes the instance, in the target.

        Returns:
          InterruptResult: ``RAISED``, ``DEFERRED``, ``PROTECTED``, ``CLOSED`` or ``UNSUPPORTED``.

        Raises:
          TypeError: If ``exception`` is not an exception class.
        """
        if not isinstance(exception, type) or not issubclass(exception, BaseException):
            raise TypeError(f"exception must be an exception class, not {exception!r}")
        gate = self._gate.last()
        if gate.result() in {None, InterruptResult.DEFERRED}:
            # Set the exception before reading the gate: a thread that opens the gate looks for an exception afterwards.
            self._exception = exception
            gate = self._gate.last()
        result = gate.result()
        if result is InterruptResult.RAISED:
            self._send_signal()
        if result is not None:
            return result
        if not SUPPORTED:
            return InterruptResult.UNSUPPORTED
        with _interrupting:
            interval = sys.getswitchinterval()
            try:
                sys.setswitchinterval(max(interval, _SHORTEST_TURN))
                time.sleep(0)  # this turn ends here, and another one begins
                result = self._raise_at_safe_point(gate, exception, time.monotonic() + _SURE)
            finally:
                sys.setswitchinterval(interval)
        return self.interrupt(exception) if result is None else result

    def _raise_at_safe_point(
        self, gate: _Gate, exception: type[BaseException], sure_until: float
    ) -> InterruptResult | None:
        """Raise the exception if the thread is at a safe point; return None if the gate has changed."""
        is_here = self.is_here()
        if (GIL_IS_ON or is_here) and not self._is_at_safe_point():
            return InterruptResult.PROTECTED
        spent = _Gate(is_spent=True)
        spent.is_on_its_way = True  # the closing and the shields wait for it
        set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
        arguments = ctypes.c_ulong(self._thread_id), ctypes.py_object(exception)
        # A thread that inspects itself does not move.
        if GIL_IS_ON and not is_here and time.monotonic() > sure_until:
            return InterruptResult.PROTECTED
        if not gate.becomes(spent):
            return None
        try:
            found = set_exception(*arguments)
        finally:
            spent.is_on_its_way = False
        if not found:
            return InterruptResult.CLOSED
        self._send_signal()
        return InterruptResult.RAISED

    def _send_signal(self) -> None:
        """Make a blocking call of the thread check the slot."""
        number = signal_number()
        if number and self._opened and not self._gate.last().is_closed:
            with suppress(ProcessLookupError):
                signal.pthread_kill(self._thread_id, number)

    def shield(self) -> AnyShield:
        """Return a context manager inside which interrupts of this scope wait.

        Shields nest. The end of the outermost one raises the exception that has been waiting; an exception that is
        leaving the shield becomes its context. A shield does nothing in a thread other than the scope's, or while the
        scope is not open.
        """
        return Shield(self)

    def rearm(self) -> bool:
        """Allow the scope to be interrupted again after its exception has been raised; return whether it now can be.

        Can be called from any thread. Returns False, and does nothing, if nothing has been raised. This core does not
        know what is in the slot: if the last exception has not been raised yet, only one is raised in all.
        """
        # The target may get here, with the exception raised, before the interrupting thread has gone on.
        while (gate := self._gate.last()).is_on_its_way:
            time.sleep(0)
        if gate.is_closed or not gate.is_spent:
            return False
        return gate.becomes(_Gate(is_shut=gate.is_shut))

    def revoke(self) -> bool:
        """Withdraw an exception that has not been raised yet, from any thread; return whether that was in time."""
        if self._gate.last().result() not in {None, InterruptResult.DEFERRED}:
            return False
        self._exception = None
        return True

    def claim(self, frame: FrameType | None = None) -> bool:
        """Mark the exception as raised by the caller, which raises it in another way; return whether it may.

        Can be called from any thread. Returns False if the exception has been raised already, inside a shield, and
        while the scope is not open.

        Parameters:
          frame: The frame of a waiting greenlet in which the caller wants to raise. The result is False if that frame
            runs protected code, or is not in the scope.
        """
        if frame is not None:
            stack = self._stack(frame)
            if stack is None or not may_be_cut(stack):
                return False
        while (gate := self._gate.last()).result() is None:
            if gate.becomes(_Gate(is_spent=True)):
                return True
        return False

    def may_be_cut(self, frame: FrameType) -> bool:
        """Say whether the functions from this frame up to the scope's own may be left half done; on its own thread."""
        stack = self._stack(frame)
        return stack is not None and may_be_cut(stack)

    @property
    def is_shielded(self) -> bool:
        """Whether the scope is inside one of its shields."""
        return self._shields > 0

    def is_here(self) -> bool:
        """Return whether the caller is in this scope, on the scope's thread."""
        return self._opened and not self._gate.last().is_closed and self._thread_id == threading.get_ident()

    def frames(self) -> list[FrameType]:
        """Return the frames of the scope's thread, innermost last.

        An empty list while the scope is not open, and for another thread where the GIL is off.
        """
        if not self._opened or self._gate.last().is_closed or not (GIL_IS_ON or self.is_here()):
            return []
        return frames_from(sys._current_frames().get(self._thread_id))

    def raise_in_loop(self) -> None:
        """Raise the exception after a jump backwards, if this is the scope's thread and nothing prevents it."""
        gate, exception = self._gate.last(), self._exception
        if exception is None or gate.result() is not None or not self._is_in_its_thread():
            return
        stack = self._stack(sys._getframe(2))  # the function that has jumped
        if stack is not None and may_be_cut(stack) and gate.becomes(_Gate(is_spent=True)):
            self._follow(None)
            raise exception

    def _is_in_its_thread(self) -> bool:
        return self._thread_id == threading.get_ident()

    def _is_at_safe_point(self) -> bool:
        """Return whether the thread is at a safe point, judged by all its frames up to the scope's own."""
        frame = self._innermost_frame()
        if frame is None or frame.f_code is Scope.run.__code__:
            return True
        stack = self._stack(frame)
        if stack is not None and frame.f_lasti in WAITS.get(frame.f_code, ()):
            return not is_handed_over(stack)
        before, self._found = self._found, id(frame)
        if stack is not None and may_be_cut(stack):
            if delivers(frame.f_code, frame.f_lasti):
                return True
            if before == id(frame) and not jumps.SUPPORTED and leads_to_delivery(stack):
                return True
        if before and jumps.SUPPORTED:
            self._follow(frame)
        return False

    def follow_itself(self) -> None:
        """Raise the waiting exception at the first safe point after the protected code that calls this.

        Before 3.12 this core cannot follow another thread, but the scope's own thread can follow itself: with a profile
        function, unless it has one already. A thread that only sends messages would otherwise never be found at a safe
        point.
        """
        if self._exception is None or jumps.SUPPORTED:
            return
        if self.is_here() and sys.getprofile() is None:
            sys.setprofile(self._raise_if_safe)

    def _raise_if_safe(self, frame: FrameType, event: str, result: object) -> None:
        gate, exception = self._gate.last(), self._exception
        if exception is None or gate.is_closed or gate.is_spent:
            sys.setprofile(None)
            return
        # A function that raises counts as returning None. The returning function has completed, and does not count.
        # Nothing is raised at the call of a C function, which may be a lock's release.
        if event == "return" and result is not None and not frame.f_code.co_flags & _GENERATORS:
            at = frame.f_back
        elif event == "call":
            at = frame
        else:
            return
        if at is None or at.f_code is Scope.run.__code__ or gate.is_shut:
            return
        stack = self._stack(at)
        if stack is not None and delivers(at.f_code, at.f_lasti) and may_be_cut(stack):
            sys.setprofile(None)
            if gate.becomes(_Gate(is_spent=True)):
                raise exception

    def _innermost_frame(self) -> FrameType | None:
        """Return the thread's innermost frame; in the thread itself, the frame that has called this module."""
        if not self._is_in_its_thread():
            return sys._current_frames().get(self._thread_id)
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_globals is globals():
            frame = frame.f_back
        return frame

    def _stack(self, frame: FrameType | None) -> list[FrameType] | None:
        """Return the frames from this one up to the scope's own.

        Returns None if they do not lead there, because the thread has switched to another greenlet. An exception that
        is raised in that greenlet may reach the scope all the same, but only the thread itself can see this.
        """
        stack: list[FrameType] = []
        for up in [frame, *(frames_of_parents() if self._is_in_its_thread() else ())]:
            here = up
            while here is not None:
                if here.f_code is Scope.run.__code__:
                    return None if up is not frame and any(map(is_hub, stack)) else stack
                stack.append(here)
                here = here.f_back
        return None

    def _follow(self, frame: FrameType | None) -> None:
        """Raise the exception at the next jump backwards of this thread, too; None: stop following.

        The jump is one of the innermost function, from this frame outwards, in which the exception may be raised.
        """
        code: CodeType | None = None
        called: str | None = None
        while frame is not None and frame.f_code is not Scope.run.__code__:
            if must_stay(frame, called):
                code = None
            elif code is None and not must_stay(frame, None):
                code = frame.f_code
            called = frame.f_code.co_name
            frame = frame.f_back
        before, self._followed = self._followed, code
        if before is not None and before is not code:
            jumps.leave(before, self)
        if code is not None:
            jumps.follow(code, self)
            if self._gate.last().is_closed:  # in the meantime
                jumps.leave(code, self)

    def _open_gate(self) -> None:
        """Let interrupts in, and raise the exception that has been waiting, if any."""
        gate = self._set_gate()
        exception = self._exception
        if exception is None or gate.is_spent:
            return
        if gate.becomes(_Gate(is_spent=True)):
            raise exception
        self._landed()

    def _set_gate(self, *, is_shut: bool = False, is_closed: bool = False) -> _Gate:
        """Change the gate once a pending exception has been raised, and return the new state.

        For the scope's own thread.
        """
        while True:
            gate = self._landed()
            following = _Gate(is_shut=is_shut, is_spent=gate.is_spent, is_closed=is_closed)
            if gate.becomes(following):
                self._gate = following
                return following

    def _landed(self) -> _Gate:
        """Wait until a pending exception has been raised, here if not before, and return the gate's state."""
        while (gate := self._gate.last()).is_on_its_way:
            time.sleep(0)
        if gate.is_spent:
            for _ in range(10):  # the slot is checked at each jump backwards
                pass
        return gate


class Shield(ShieldInPython):
    """A context manager inside which interrupts of a scope wait."""

    __slots__ = ()

    _scope: Scope

    def __enter__(self) -> None:
        scope = self._scope
        self._check_new()
        if not scope.is_here():
            return
        if not scope._shields:
            scope._set_gate(is_shut=True)
        scope._shields += 1
        self._entered = True

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        scope = self._scope
        if not self._entered:
            return
        self._entered = False
        scope._shields -= 1
        gate = scope._gate.last()
        if scope._shields or gate.is_closed:
            return
        if scope._thread_id == threading.get_ident():
            stack = scope._stack(sys._getframe(1))
            if stack is not None and may_be_cut(stack):
                scope._open_gate()
            else:
                # The shield ends in protected code, in an __enter__, say: what that has acquired would be lost. The
                # next interrupt inspects the thread again.
                scope._set_gate()
            return
        # Another thread ends the shield, by closing a generator, say. The exception belongs to the scope's thread.
        gate.becomes(_Gate(is_spent=gate.is_spent))
        while scope._exception is not None and scope.interrupt(scope._exception) is InterruptResult.PROTECTED:
            time.sleep(0.001)
