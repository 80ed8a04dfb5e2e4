"""The interrupt core in pure Python: the same names and rules as ``_interrupt.pyx``; docs/internals.md tells why.

Here every step is bytecode, so a late exception cannot be kept from coming up while a scope closes. Three things
together make up for it:

- **The gate.** Its states form a chain: each has room for the one that follows, and whoever puts it there first, with
  ``dict.setdefault``, which is atomic, has changed the state. An interrupt, a shield and the closing all try to, and
  each sees who was first. When the closing was, nothing can come any more; when an interrupt was, exactly one exception
  comes, and the closing waits for it and absorbs it.
- **The box.** The function is called by a ``defaultdict`` that looks for a missing key, so that between its return and
  the moment when its result is safe there is only C code. A plain call would lose the result to an exception that is
  delivered right after it.
- **One at a time.** There is never more than one exception of a scope on its way: a second could not be told from it.

It looks before it raises, as the compiled core does (see there): it walks the target's frames and raises nothing while
protected code is on the stack. From the look to the raising it takes many bytecodes, and the target must not get its
turn in between. So both are done at the beginning of a turn: CPython lets a thread that has just got the GIL keep it
for a switch interval, which must not be too short meanwhile. The machine can take the processor from this thread for as
long as that, so the last thing before the raising is a look at the clock: if the turn may be over, it is not done. What
remains is that this happens behind that look, within some 3 microseconds; and that, from 3.13 on, a target that goes on
does not look at its slot at once. Where it may not raise, the answer is ``PROTECTED``, and the caller must ask again.

A thread in a loop may be found at no safe place, however often it is asked. From 3.12 on its next jump backwards is one
(``jumps.py``). Before, the exception goes into its slot if the thread is bound to look at that before it gets into
another function's code; a loop whose every call ends in an exception from protected code is not interrupted there, but
for one that enqueues messages, which follows itself (``Scope.follow_itself``).

Without the GIL the target never stands still, and reading the frames of a thread that runs crashes the interpreter. So
there this core looks only at its own thread, and what another thread raises knows no safe points. The gate needs no
GIL: the exception is raised inside of the function or not at all there, too.

On 3.12 a late exception can come up before the one that the function has raised is safe, and takes its place.

What this core cannot do: it cannot read the thread's slot, so it cannot see somebody else's exception in there and
overwrites it, and of two scopes on one thread that are interrupted at the same moment one can lose its exception. It
never answers ``TAKEN``. It does not know which scopes nest: the shield of an inner scope does not hold up what is meant
for an outer one, nor does protected code around the inner one. Where there is no ``PyThreadState_SetAsyncExc`` (PyPy),
only what waits for a shield or for the opening is raised, and everything else is answered ``UNSUPPORTED``.
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
from .shield import AnyShield

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType, TracebackType

__all__ = ["SUPPORTED", "Scope"]

_R = TypeVar("_R")

#: Whether this interpreter can raise an exception in another thread.
SUPPORTED: Final = platform.python_implementation() == "CPython"


#: The shortest switch interval, in seconds, in which there is time enough for a look and what follows from it; and how
#: much of a turn may be over before it is not sure any more that it still is the same one.
_SHORTEST_TURN: Final = 0.005
_SURE: Final = 0.004

#: Functions whose frames are left where they yield.
_GENERATORS: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

#: For the one who is about to interrupt: the switch interval is that of all threads.
_interrupting = threading.Lock()


def _forget_the_others() -> None:
    """After a fork, the thread that is interrupting may be gone."""
    global _interrupting  # noqa: PLW0603
    _interrupting = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_the_others)


class _Gate(dict[None, "_Gate"]):
    """One state of a scope's gate, with room for the one that follows (see the top of this module)."""

    __slots__ = ("is_closed", "is_on_its_way", "is_shut", "is_spent")

    def __init__(self, *, is_shut: bool = False, is_spent: bool = False, is_closed: bool = False) -> None:
        #: The scope is not open yet, or behind a shield: interrupts wait.
        self.is_shut = is_shut
        #: An exception has been raised, or will be at once.
        self.is_spent = is_spent
        #: Nothing can be raised any more.
        self.is_closed = is_closed
        #: That exception is not in the thread's slot yet.
        self.is_on_its_way = False

    def answer(self) -> InterruptResult | None:
        """What an interrupt is told that may not raise now; None if it may."""
        if self.is_closed:
            return InterruptResult.CLOSED
        if self.is_spent:
            return InterruptResult.RAISED
        return InterruptResult.DEFERRED if self.is_shut else None

    def last(self) -> _Gate:
        """Return the state that has none behind it."""
        gate = self
        while None in gate:
            gate = gate[None]
        return gate

    def becomes(self, following: _Gate) -> bool:
        """Put that state behind this one, unless there is one, and say whether that was done."""
        return self.setdefault(None, following) is following


class Scope:
    """The stretch of one call in which an exception may be raised from another thread.

    A scope runs one callable, once.
    """

    __slots__ = ("_exception", "_followed", "_found", "_gate", "_opened", "_shields", "_thread_id")

    def __init__(self) -> None:
        self._gate = _Gate(is_shut=True)  # or one before the last
        self._exception: type[BaseException] | None = None
        self._opened = False
        self._shields = 0
        self._thread_id = 0
        #: The frame, by its id, in which the last look found the thread at no safe place.
        self._found = 0
        #: The code whose jumps are followed.
        self._followed: CodeType | None = None

    def run(
        self,
        function: Callable[..., _R],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> _R:
        """Call ``function(*args, **kwargs)`` in this scope, and return what it returns.

        An interrupt raises its exception inside of the function or not at all: when the function has returned, or
        raised, nothing comes up any more. An interrupt that came before the opening is raised instead of the call.

        Raises:
          RuntimeError: When the scope has been run before.
        """
        if self._opened:
            raise RuntimeError("a scope runs one call: make a new Scope for each")
        box: defaultdict[None, _R] = defaultdict(partial(function, *args, **(kwargs or {})))
        error: BaseException | None = None
        try:
            try:
                self._opened = True
                self._thread_id = threading.get_ident()
                self._open_gate()
                box[None]  # calls the function
            except BaseException as raised:  # noqa: BLE001 - it is raised again below, after the closing
                error = raised
        except BaseException as late:  # noqa: BLE001 - at the beginning of the handler above
            error = late.__context__ if late.__context__ and type(late) is self._exception else late
        is_closed = False
        while not is_closed:
            try:
                self._set_gate(is_closed=True)
                is_closed = True
            except BaseException as late:  # noqa: BLE001 - see the next line
                # Ours came after the function's end and is absorbed; somebody else's is not ours to swallow.
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
        """Raise ``exception`` in the scope, from any thread, and answer what happened.

        The exception is raised once, however often this is called.

        Parameters:
          exception: A subclass of ``BaseException``. A class, since CPython makes the instance, in the target.

        Returns:
          Answer: ``RAISED``, ``WAITING``, ``PROTECTED``, ``CLOSED`` or ``UNSUPPORTED``.

        Raises:
          TypeError: When ``exception`` is not an exception class.
        """
        if not isinstance(exception, type) or not issubclass(exception, BaseException):
            raise TypeError(f"an exception class is needed to interrupt a scope, not {exception!r}")
        gate = self._gate.last()
        if gate.answer() in {None, InterruptResult.DEFERRED}:
            # First the wish, then the gate: whoever opens the gate looks for a wish afterwards.
            self._exception = exception
            gate = self._gate.last()
        answer = gate.answer()
        if answer is InterruptResult.RAISED:
            self._send_signal()
        if answer is not None:
            return answer
        if not SUPPORTED:
            return InterruptResult.UNSUPPORTED
        with _interrupting:
            interval = sys.getswitchinterval()
            try:
                sys.setswitchinterval(max(interval, _SHORTEST_TURN))
                time.sleep(0)  # a turn ends here, and another begins
                answer = self._interrupt(gate, exception, time.monotonic() + _SURE)
            finally:
                sys.setswitchinterval(interval)
        return self.interrupt(exception) if answer is None else answer

    def _interrupt(self, gate: _Gate, exception: type[BaseException], sure_until: float) -> InterruptResult | None:
        """Raise the exception where that may be; None if the gate has changed."""
        is_here = self.is_here()
        if (GIL_IS_ON or is_here) and not self._is_at_safe_point():
            return InterruptResult.PROTECTED
        spent = _Gate(is_spent=True)
        spent.is_on_its_way = True  # the closing and the shields wait for it
        set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
        words = ctypes.c_ulong(self._thread_id), ctypes.py_object(exception)
        # A thread that looks at itself does not move.
        if GIL_IS_ON and not is_here and time.monotonic() > sure_until:
            return InterruptResult.PROTECTED
        if not gate.becomes(spent):
            return None
        try:
            found = set_exception(*words)
        finally:
            spent.is_on_its_way = False
        if not found:
            return InterruptResult.CLOSED
        self._send_signal()
        return InterruptResult.RAISED

    def _send_signal(self) -> None:
        """Make a call that the thread may be waiting in look at its slot."""
        number = signal_number()
        if number and self._opened and not self._gate.last().is_closed:
            with suppress(ProcessLookupError):
                signal.pthread_kill(self._thread_id, number)

    def shield(self) -> AnyShield:
        """Return a context manager inside of which interrupts of this scope wait.

        Shields nest. What has been waiting is raised on the way out of the outermost one, with the exception that is
        leaving it, if any, as its context. In another thread than the scope's, and when the scope is not open, a
        shield does nothing.
        """
        return Shield(self)

    def rearm(self) -> bool:
        """Let the exception be raised once more, after it has come up, and say whether it may be.

        From any thread. When nothing has been raised, there is nothing to be done. This core does not know what is in
        the slot: what has not come up yet is raised once in all.
        """
        # A thread in which it has come up may be here before the one that has raised it goes on.
        while (gate := self._gate.last()).is_on_its_way:
            time.sleep(0)
        if gate.is_closed or not gate.is_spent:
            return False
        return gate.becomes(_Gate(is_shut=gate.is_shut))

    def revoke(self) -> bool:
        """Take back what has not been raised yet, from any thread, and say whether nothing has been."""
        if self._gate.last().answer() not in {None, InterruptResult.DEFERRED}:
            return False
        self._exception = None
        return True

    def claim(self, frame: FrameType | None = None) -> bool:
        """Mark the exception as raised, by the caller, who raises it in another way; say whether that is to be done.

        From any thread. Not when it has been raised already, behind a shield, or when the scope is not open.

        Parameters:
          frame: Where it is to come up, in a greenlet that waits: not if that must not be cut, or is not in the scope.
        """
        if frame is not None:
            stack = self._stack(frame)
            if stack is None or not may_be_cut(stack):
                return False
        while (gate := self._gate.last()).answer() is None:
            if gate.becomes(_Gate(is_spent=True)):
                return True
        return False

    def may_be_cut(self, frame: FrameType) -> bool:
        """Say whether the functions from this frame up to the scope's own may be left half done; on its own thread."""
        stack = self._stack(frame)
        return stack is not None and may_be_cut(stack)

    @property
    def is_shielded(self) -> bool:
        """Whether it is behind a shield of this scope."""
        return self._shields > 0

    def is_here(self) -> bool:
        """Say whether the caller is in this scope, on its thread."""
        return self._opened and not self._gate.last().is_closed and self._thread_id == threading.get_ident()

    def frames(self) -> list[FrameType]:
        """Return the frames of the scope's thread, innermost last.

        None when the scope is not open, nor for another thread where the GIL is off.
        """
        if not self._opened or self._gate.last().is_closed or not (GIL_IS_ON or self.is_here()):
            return []
        return frames_from(sys._current_frames().get(self._thread_id))

    def raise_in_loop(self) -> None:
        """Raise the exception at a jump backwards, if this is the scope's thread and nothing is in the way."""
        gate, exception = self._gate.last(), self._exception
        if exception is None or gate.answer() is not None or not self._is_in_its_thread():
            return
        stack = self._stack(sys._getframe(2))  # the function that has jumped
        if stack is not None and may_be_cut(stack) and gate.becomes(_Gate(is_spent=True)):
            self._follow(None)
            raise exception

    def _is_in_its_thread(self) -> bool:
        return self._thread_id == threading.get_ident()

    def _is_at_safe_point(self) -> bool:
        """Say whether nothing that the thread is doing, up to this scope's own frame, must be left alone."""
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
        """Raise what waits for the end of protected code at the first place behind it. For that code to call.

        Before 3.12 this core cannot follow another thread, but the scope's own can follow itself: with a profile
        function, unless it has one. A thread that does nothing but send messages would never be found anywhere else.
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
        # What raises returns None, too. What returns is done and does not count; a C call may be a lock's release.
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
        """Return the frame in which the thread is; for the thread itself, the one that calls this module."""
        if not self._is_in_its_thread():
            return sys._current_frames().get(self._thread_id)
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_globals is globals():
            frame = frame.f_back
        return frame

    def _stack(self, frame: FrameType | None) -> list[FrameType] | None:
        """Return the frames from this one up to the scope's own.

        None if they do not lead there, because the thread has switched to another greenlet. What is raised in that may
        get there all the same, which only the thread itself can see.
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
        """Have the exception come up at the next jump backwards of this thread, too; None: at none any more.

        In the innermost function, from this frame up, in which it may come up.
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
            if self._gate.last().is_closed:  # meanwhile
                jumps.leave(code, self)

    def _open_gate(self) -> None:
        """Let interrupts in, and raise the one that has been waiting."""
        gate = self._set_gate()
        exception = self._exception
        if exception is None or gate.is_spent:
            return
        if gate.becomes(_Gate(is_spent=True)):
            raise exception
        self._landed()

    def _set_gate(self, *, is_shut: bool = False, is_closed: bool = False) -> _Gate:
        """Change the gate when what is on its way has come up, and return its state. For the scope's own thread."""
        while True:
            gate = self._landed()
            following = _Gate(is_shut=is_shut, is_spent=gate.is_spent, is_closed=is_closed)
            if gate.becomes(following):
                self._gate = following
                return following

    def _landed(self) -> _Gate:
        """Return the gate's state when the exception that goes with it has come up; here, if not before."""
        while (gate := self._gate.last()).is_on_its_way:
            time.sleep(0)
        if gate.is_spent:
            for _ in range(10):  # each jump backwards is a place where it comes up
                pass
        return gate


class Shield(AnyShield):
    """Inside of it, interrupts of a scope wait."""

    __slots__ = ("_entered", "_scope")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._entered = False

    def __enter__(self) -> None:
        scope = self._scope
        if self._entered:
            raise RuntimeError("this shield has been entered: call shield() for each with statement")
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
                # A context manager that uses a shield when it is entered, say: what it has taken would be lost. Whoever
                # interrupts asks again.
                scope._set_gate()
            return
        # A generator, say, that another thread closes: the exception belongs to the scope's thread.
        gate.becomes(_Gate(is_spent=gate.is_spent))
        while scope._exception is not None and scope.interrupt(scope._exception) is InterruptResult.PROTECTED:
            time.sleep(0.001)
