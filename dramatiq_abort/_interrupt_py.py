"""The interrupt core in pure Python: the same names and the same rules as ``_interrupt.pyx``, whose preface tells why.

Here every step is bytecode, so a late exception cannot be kept from coming up while a scope closes. Three things
together make up for it:

- **The gate.** The right to raise in a scope is one key of a dict, and ``dict.setdefault`` is atomic: an interrupt, a
  shield and the closing all try to take it, and each sees who has it. When the closing gets it, nothing can come any
  more; when an interrupt got it first, exactly one exception comes, and the closing waits for it and absorbs it.
- **The box.** The function is called by a ``defaultdict`` that looks for a missing key, so that between its return and
  the moment when its result is safe there is only C code. A plain call would lose the result to an exception that is
  delivered right after it.
- **Once.** A scope raises at most once: a second exception could not be told from the first.

It looks before it raises, as the compiled core does (see there): it walks the target's frames and raises nothing while
protected code is on the stack. But it cannot stop the target while it looks, nor follow it: between the look and the
raising lie a few microseconds in which the target, if it gets the GIL, can go on into protected code; and where it may
not raise, the answer is ``PROTECTED``, and the caller must ask again.

On 3.12 a late exception can come up before the one that the function has raised is safe, and takes its place.

What this core cannot do: it cannot read the thread's slot, so it cannot see somebody else's exception in there and
overwrites it, and of two scopes on one thread that are interrupted at the same moment one can lose its exception. It
never answers ``TAKEN``. Where there is no ``PyThreadState_SetAsyncExc`` (PyPy), only what waits for a shield or for
the opening is raised, and everything else is answered ``UNSUPPORTED``.
"""

from __future__ import annotations

import ctypes
import platform
import sys
import threading
import time
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ._answer import Answer
from ._safe_points import PROTECTED_FUNCTIONS, WAITS, delivers, is_protected

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType

__all__ = ["SUPPORTED", "Scope"]

_R = TypeVar("_R")

#: Whether this interpreter can raise an exception in another thread.
SUPPORTED: Final = platform.python_implementation() == "CPython"

# Who may raise in a scope (see the preface): nobody has the gate while its dict is empty, and whoever is neither of
# these two is an interrupt.
_GATE: Final = "gate"
_SHIELD: Final = object()
_CLOSING: Final = object()


class Scope:
    """The stretch of one call in which an exception may be raised from another thread.

    A scope runs one callable, once.
    """

    __slots__ = ("_closed", "_exception", "_gate", "_opened", "_sent", "_shields", "_thread_id")

    def __init__(self) -> None:
        # A scope that is not open yet is like one behind a shield: interrupts wait.
        self._gate: dict[str, object] = {_GATE: _SHIELD}
        self._exception: type[BaseException] | None = None
        self._opened = False
        self._closed = False
        self._sent = False
        self._shields = 0
        self._thread_id = 0

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
        except BaseException as late:  # noqa: BLE001 - ours, at the beginning of the handler above
            error = error or late.__context__ or late
        while not self._closed:
            try:
                self._close()
            except BaseException as late:  # noqa: BLE001 - see the next line
                # Ours came after the function's end and is absorbed; somebody else's is not ours to swallow.
                if type(late) is not self._exception:
                    error = late
        if error is None or (box and type(error) is self._exception):
            return box[None]
        try:
            raise error
        finally:
            del error

    def interrupt(self, exception: type[BaseException]) -> Answer:
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
        if self._closed:
            return Answer.CLOSED
        if self._sent:
            return Answer.RAISED
        # First the wish, then the gate: whoever gives the gate back looks for a wish afterwards.
        self._exception = exception
        if self._gate.get(_GATE) is None:
            if not SUPPORTED:
                return Answer.UNSUPPORTED
            if not self._is_at_safe_point():
                return Answer.PROTECTED
        mine = object()
        holder = self._gate.setdefault(_GATE, mine)
        if holder is not mine:
            return {_SHIELD: Answer.WAITING, _CLOSING: Answer.CLOSED}.get(holder, Answer.RAISED)
        try:
            found = ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread_id),
                ctypes.py_object(exception),
            )
        finally:
            self._sent = True  # the closing and the shields wait for this
        return Answer.RAISED if found else Answer.CLOSED

    def shield(self) -> AbstractContextManager[None]:
        """Return a context manager inside of which interrupts of this scope wait.

        Shields nest. What has been waiting is raised on the way out of the outermost one, with the exception that is
        leaving it, if any, as its context. In another thread than the scope's, and when the scope is not open, a
        shield does nothing.
        """
        return Shield(self)

    def rearm(self) -> bool:
        """Let the scope be interrupted once more, after what was raised has been dropped, and say whether it may be.

        For the scope's own thread, which alone can know.
        """
        if self._closed or not self._sent or self._thread_id != threading.get_ident():
            return False
        self._sent = False
        self._gate.pop(_GATE, None)
        return True

    def _is_at_safe_point(self) -> bool:
        """Say whether nothing that the thread is doing, up to this scope's own frame, must be left alone."""
        frame = sys._current_frames().get(self._thread_id)
        if frame is None or frame.f_code is Scope.run.__code__:
            return True
        is_waiting = frame.f_lasti in WAITS.get(frame.f_code, ())
        if not is_waiting and not delivers(frame.f_code.co_code, frame.f_lasti):
            return False
        while frame is not None and frame.f_code is not Scope.run.__code__:
            if frame.f_code is threading.Thread.start.__code__:
                return False  # up to 3.11 the new thread has this one's ident until it runs, and would be hit
            if is_waiting:
                frame = frame.f_back
                continue
            if frame.f_code.co_name in PROTECTED_FUNCTIONS or is_protected(str(frame.f_globals.get("__name__"))):
                return False
            frame = frame.f_back
        return True

    def _open_gate(self) -> None:
        """Let interrupts in, and raise the one that has been waiting."""
        del self._gate[_GATE]
        if self._exception is None:
            return
        if self._gate.setdefault(_GATE, _SHIELD) is _SHIELD:
            self._sent = True
            raise self._exception
        self._let_it_land()

    def _let_it_land(self) -> None:
        """Return when the exception of the interrupt that took the gate has been raised; here, if not before."""
        while not self._sent:
            time.sleep(0)
        for _ in range(10):  # each jump backwards is a place where it comes up
            pass

    def _close(self) -> None:
        holder = self._gate.setdefault(_GATE, _CLOSING)
        if holder is not _CLOSING:
            if holder is not _SHIELD:
                self._let_it_land()
            self._gate[_GATE] = _CLOSING
        self._closed = True


class Shield:
    """Inside of it, interrupts of a scope wait."""

    __slots__ = ("_entered", "_scope")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._entered = False

    def __enter__(self) -> None:
        scope = self._scope
        if self._entered:
            raise RuntimeError("this shield has been entered: call shield() for each with statement")
        if not scope._opened or scope._closed or scope._thread_id != threading.get_ident():
            return
        if scope._shields == 0 and scope._gate.setdefault(_GATE, _SHIELD) is not _SHIELD:
            scope._let_it_land()
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
        if scope._shields or scope._closed or scope._gate.get(_GATE) is not _SHIELD or scope._sent:
            return
        if scope._thread_id == threading.get_ident():
            scope._open_gate()
            return
        # A generator, say, that another thread closes: the exception belongs to the scope's thread.
        del scope._gate[_GATE]
        while scope._exception is not None and scope.interrupt(scope._exception) is Answer.PROTECTED:
            time.sleep(0.001)
