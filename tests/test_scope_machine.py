"""Random sequences of all operations on nested scopes, compared with a plain model.

Each step is exact: the thread with the scopes executes one command, and stands still in between in C code, where an
exception in its slot stays until the next command arrives. Each run uses a fixed selection of sequences; others,
in any number, run with ``EXAMPLES=20000 pytest --timeout=0 tests/test_scope_machine.py``.
"""

from __future__ import annotations

import _thread
import gc
import os
import sys
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from support import PATIENCE, ask_twice, in_c, needs_interrupts, needs_threads, set_async_exception

from dramatiq_abort.interrupt import InterruptResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    Ending = type[BaseException | list[object]] | None

pytestmark = [
    needs_interrupts,
    needs_threads,
    pytest.mark.slow,
    pytest.mark.sanitized,
    pytest.mark.newest_dependencies,
]


class Stop(BaseException):
    """An exception that interrupts scopes."""


class Halt(BaseException):
    """Another exception that interrupts scopes."""


class Foreign(BaseException):
    """An exception from another source."""


#: The result of a function that ends without an exception, whatever the contents of the list that it returns.
COMPLETED = list


def nothing() -> None:
    """Do nothing: a place where a pending exception is raised."""


class Target:
    """A thread that executes commands one after the other, each inside what the previous ones have opened."""

    def __init__(self) -> None:
        self._go, self._done = _thread.allocate_lock(), _thread.allocate_lock()
        self._go.acquire()
        self._done.acquire()
        #: Reports that a command is done and waits for the next: parts of a C function, with nothing in between.
        self.stand_still = self._done.release, self._go.acquire
        self._command: Callable[[], object] | None = None
        self._error: type[BaseException] | None = None
        self._seen: tuple[tuple[int, object], ...] = ()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        assert self._done.acquire(timeout=PATIENCE)

    def tell(self, command: Callable[[], object] | None, error: type[BaseException] | None = None) -> list[Any]:
        """Have the thread execute a command, or leave what it entered last.

        Returns:
          The results and exceptions of the commands that have ended, and any other exceptions raised, in order and with
          the depth of each. An exception that replaced another one follows it.
        """
        assert self.thread.is_alive()
        self._command, self._error, self._seen = command, error, ()
        self._go.release()
        assert self._done.acquire(timeout=PATIENCE)
        return [(depth, thing) for depth, last in self._seen for thing in self._unfolded(last) if thing is not None]

    def obey(self, depth: int) -> object:
        """Execute commands until one says to leave.

        Exceptions are raised only in the calls, each of which is inside a ``try`` statement. After a command, two can
        be pending: the one in the slot, and the one that is raised at the next safe point.
        """
        while True:
            try:
                try:
                    self._wait()
                except BaseException as error:  # noqa: BLE001
                    self._seen += ((depth, error),)
                nothing()
            except BaseException as error:  # noqa: BLE001
                self._seen += ((depth, error),)
            if self._command is None:
                if self._error is not None:
                    raise self._error
                return []
            try:
                try:
                    try:
                        thing = self._execute()
                        self._seen += ((depth, thing),)
                    except BaseException as error:  # noqa: BLE001
                        self._seen += ((depth, error),)
                    nothing()
                except BaseException as error:  # noqa: BLE001
                    self._seen += ((depth, error),)
                nothing()
            except BaseException as error:  # noqa: BLE001
                self._seen += ((depth, error),)

    # Each wait and command has its own frame, because the compiled core recognises a frame that it has seen.

    def _wait(self) -> None:
        in_c(*self.stand_still)()

    def _execute(self) -> object:
        assert self._command is not None
        return self._command()

    def _run(self) -> None:
        try:
            self.obey(0)
        finally:
            self._done.release()

    @staticmethod
    def _unfolded(thing: object) -> list[object]:
        """Return the types of an exception and its contexts, or COMPLETED for a list, or the object itself."""
        if not isinstance(thing, BaseException):
            return [COMPLETED if isinstance(thing, list) else thing]
        before = [] if thing.__context__ is None else Target._unfolded(thing.__context__)
        return [*before, type(thing)]


class Protected:
    """Protected code."""

    def __init__(self, target: Target, depth: int) -> None:
        self._obey = partial(target.obey, depth)

    def __enter__(self) -> object:
        return self._obey()

    def __exit__(self, *_: object) -> None: ...


@dataclass(eq=False)
class ScopeModel:
    """The model of a scope."""

    real: Any
    #: The exception that waits for the end of a shield or of protected code, or has been raised.
    exception: type[BaseException] | None = None
    is_raised: bool = False
    shields: int = 0
    #: Whether another source's exception has replaced its own in the slot.
    is_overwritten: bool = False


@dataclass(eq=False)
class Level:
    """A scope, shield or function that the target has entered."""

    scope: ScopeModel | None = None
    shields: ScopeModel | None = None
    is_protected: bool = False
    #: The result of a scope's function in C, which calls a function that executes commands, and then waits for one more
    #: command. Nothing is raised in it.
    ending: Ending = None
    is_in_c: bool = False


class Model:
    """The expected behaviour.

    The pure-Python core can neither read the slot nor follow a thread to a safe place, and does not know which scopes
    nest: ``is_compiled`` stands for all three.
    """

    def __init__(self, *, is_compiled: bool) -> None:
        self.is_compiled = is_compiled
        self.levels: list[Level] = []
        #: The exception in the thread's slot, and its scope, if any.
        self.slot: tuple[type[BaseException], ScopeModel | None] | None = None
        #: The scope whose exception is raised at the next safe point.
        self.armed: ScopeModel | None = None

    def interrupt(self, scope: ScopeModel, exception: type[BaseException]) -> InterruptResult:
        if scope.is_raised and not scope.is_overwritten:
            return InterruptResult.RAISED
        scope.is_raised = scope.is_overwritten = False
        if self._is_shielded(scope):
            scope.exception = exception
            return InterruptResult.DEFERRED
        if self._is_protected(scope):
            return self._follow(scope, exception)
        if self.is_compiled and self.slot is not None:
            return InterruptResult.SLOT_BUSY
        if self.armed is scope:
            self.armed = None
        for level in self.levels:
            if level.scope is not None and level.scope.is_overwritten:  # it can be interrupted again
                level.scope.is_raised = level.scope.is_overwritten = False
        self.slot = exception, scope
        scope.exception = exception
        scope.is_raised = True
        return InterruptResult.RAISED

    def interrupt_as_somebody_else(self) -> None:
        if self.slot is not None and self.slot[1] is not None:
            self.slot[1].is_overwritten = self.is_compiled
        self.slot = Foreign, None

    def land(self) -> list[object]:
        """Return the exceptions raised where nothing holds them back."""
        things: list[object] = []
        if self.slot is not None:
            things.append(self.slot[0])
            self.slot = None
        armed = self.armed
        if armed is not None and not self._is_shielded(armed) and not self._is_protected(armed):
            things.append(self._raise(armed))
        return things

    def leave(self, error: type[BaseException] | None) -> list[object]:
        """Return what is raised or returned when the target leaves what it entered last."""
        level = self.levels[-1]
        if error is None and level.ending is not None and not level.is_in_c:
            level.is_in_c, level.is_protected = True, False
            landed = [] if self.armed is level.scope else self.land()
            if not landed:
                return []
            error = landed[0]
        self.levels.pop()
        if error is not None and self.slot is not None and not self.is_compiled and sys.version_info[:2] == (3, 12):
            error, self.slot = self.slot[0], None  # it replaces the function's exception
        things: list[object] = [error or COMPLETED]
        if level.scope is not None:
            self._close(level.scope)
        if level.shields is not None:
            due = self.unshield(level.shields)
            if due:
                things = ([error] if error else []) + due
        landed = self.land()
        # An exception raised directly after a call replaces its result.
        return landed if landed and things == [COMPLETED] else things + landed

    def unshield(self, scope: ScopeModel) -> list[object]:
        """Return what the end of a shield raises: the first due exception, from this scope outwards."""
        scope.shields -= 1
        scopes = [level.scope for level in self.levels if level.scope is not None]
        if scope not in scopes or self._is_shielded(scope):
            return []
        for outer in scopes[scopes.index(scope) :: -1] if self.is_compiled else [scope]:
            if outer.shields:
                return []
            if outer.exception is not None and not outer.is_raised:
                if not self._is_protected(outer):
                    return [self._raise(outer)]
                self._follow(outer, outer.exception)
                return []
        return []

    def rearm(self, scope: ScopeModel) -> bool:
        if self.is_compiled and self.slot is not None and self.slot[1] is scope:
            return False
        is_raised, scope.is_raised, scope.is_overwritten = scope.is_raised, False, False
        return is_raised

    def revoke(self, scope: ScopeModel) -> bool:
        if scope.is_raised:
            return False
        scope.exception = None
        if self.armed is scope:
            self.armed = None
        return True

    def _follow(self, scope: ScopeModel, exception: type[BaseException]) -> InterruptResult:
        if not self.is_compiled:
            scope.exception = exception  # the end of a shield raises it anyway
            return InterruptResult.PROTECTED
        if self.armed is None:
            self.armed = scope
            scope.exception = exception
        return InterruptResult.ARMED if self.armed is scope else InterruptResult.PROTECTED

    def _close(self, scope: ScopeModel) -> None:
        if self.armed is scope:
            self.armed = None
        if self.slot is not None:
            exception, owner = self.slot
            if owner is scope if self.is_compiled else exception is scope.exception:
                self.slot = None

    def _raise(self, scope: ScopeModel) -> type[BaseException]:
        assert scope.exception is not None
        if self.armed is scope:
            self.armed = None
        scope.is_raised = True
        return scope.exception

    def _is_shielded(self, scope: ScopeModel) -> bool:
        scopes = [level.scope for level in self._inside(scope)] if self.is_compiled else [scope]
        return any(inner.shields for inner in scopes if inner is not None)

    def _is_protected(self, scope: ScopeModel) -> bool:
        inside = self._inside(scope)
        if not self.is_compiled:
            while any(level.scope is not None for level in inside[1:]):
                del inside[0]
        return any(level.is_protected for level in inside)

    def _inside(self, scope: ScopeModel) -> list[Level]:
        return self.levels[next(number for number, level in enumerate(self.levels) if level.scope is scope) :]


#: Mostly the same class, as in practice: equal ones are easily confused.
exceptions = st.sampled_from([Stop, Stop, Stop, Halt])
everybodys = st.sampled_from([Stop, Stop, Stop, Halt, Foreign])
endings = st.sampled_from([None, COMPLETED, COMPLETED, ValueError])
indices = st.integers(0, 3)


class Machine(RuleBasedStateMachine):
    """Applies each operation to the target and the model, and compares the results."""

    def __init__(self, core: ModuleType) -> None:
        super().__init__()
        self._core = core
        self._model = Model(is_compiled=not core.__name__.endswith("_py"))
        self._levels = self._model.levels
        self._target = Target()
        self._shields: list[tuple[ScopeModel, Any]] = []

    def _is_in_c(self) -> bool:
        return bool(self._levels) and self._levels[-1].is_in_c

    def _may_enter(self) -> bool:
        return len(self._levels) < 6

    def _may_shield(self) -> bool:
        return bool(self._scopes()) and not self._shields

    def _has_entered(self) -> bool:
        return bool(self._levels)

    def _scopes(self) -> list[ScopeModel]:
        """Return the open scopes, from the innermost outwards."""
        return [level.scope for level in self._levels[::-1] if level.scope is not None]

    def _tell(self, command: Callable[[], object] | None, expect: Callable[[], list[object]], **leaving: Any) -> None:
        depth = len(self._levels)
        expected = [] if self._is_in_c() else [(depth, thing) for thing in self._model.land()]
        things = expect()
        depth = min(depth, len(self._levels))
        assert self._target.tell(command, **leaving) == expected + [(depth, thing) for thing in things]

    def _enter(self, command: Callable[[], object], level: Level) -> None:
        def expect() -> list[object]:
            self._levels.append(level)
            return []

        self._tell(command, expect)

    @initialize(inner=endings, outer=endings)
    def begin(self, inner: Ending, outer: Ending) -> None:
        """Begin in two scopes: a single one has few interactions."""
        self.open(is_protected=False, ending=outer)
        self.open(is_protected=False, ending=inner)

    @precondition(_may_enter)
    @rule(is_protected=st.booleans(), ending=endings)
    def open(self, is_protected: bool, ending: Ending) -> None:
        """In a scope, call a function that executes commands, or one in C that does so and then waits for one more."""
        depth = len(self._levels) + 1
        function = Protected(self._target, depth).__enter__ if is_protected else partial(self._target.obey, depth)
        if ending is not None:
            # Not a message with a repr(): on 3.15, an exception in the slot is raised in it, and is lost.
            fail = [partial(chr, -1)] if ending is ValueError else []
            function = in_c(function, *self._target.stand_still, *fail)
        scope = self._core.Scope()
        self._enter(partial(scope.run, function), Level(ScopeModel(scope), None, is_protected, ending))

    @precondition(_may_enter)
    @rule(exception=exceptions)
    def open_late(self, exception: type[BaseException]) -> None:
        """Call a function in a scope that was interrupted before."""
        scope = self._core.Scope()
        assert ask_twice(scope, exception) is InterruptResult.DEFERRED
        self._tell(partial(scope.run, nothing), lambda: [exception])
        assert ask_twice(scope, exception) is InterruptResult.CLOSED

    @precondition(_may_enter)
    @precondition(_scopes)
    @rule(which=st.none() | indices)
    def enter(self, which: int | None) -> None:
        """Enter the shield of any scope, or call a protected function."""
        depth = len(self._levels) + 1
        if which is None:
            self._enter(Protected(self._target, depth).__enter__, Level(is_protected=True))
            return
        scope = self._scope(which)

        def shielded() -> object:
            with scope.real.shield():
                return self._target.obey(depth)

        self._enter(shielded, Level(shields=scope))
        scope.shields += 1

    @precondition(_may_shield)
    @rule(which=indices)
    def enter_shield(self, which: int) -> None:
        """Enter a shield that ends at any time, even after its scope."""
        scope = self._scope(which)
        shield = scope.real.shield()
        self._tell(shield.__enter__, list)
        scope.shields += 1
        self._shields.append((scope, shield))

    @precondition(lambda self: self._shields)
    @rule(which=indices)
    def leave_shield(self, which: int) -> None:
        """Leave one of these shields."""
        scope, shield = self._shields.pop(which % len(self._shields))
        self._tell(partial(shield.__exit__, None, None, None), lambda: self._model.unshield(scope) + self._model.land())

    @precondition(_has_entered)
    @rule(
        error=st.sampled_from([None, None, ValueError, Stop]),
        meanwhile=st.lists(st.tuples(indices, everybodys), max_size=4),
    )
    def leave(self, error: type[BaseException] | None, meanwhile: list[tuple[int, type[BaseException]]]) -> None:
        """Leave what was entered last, with or without an exception, and interrupt it if it is then in C."""
        level = self._levels[-1]
        self._tell(None, partial(self._model.leave, error), error=error)
        if level in self._levels:
            for which, exception in meanwhile:
                if exception is Foreign:
                    self.interrupt_as_somebody_else()
                else:
                    self.interrupt(which, exception, is_overwritten=False)
            self._tell(None, partial(self._model.leave, level.ending if level.ending is not COMPLETED else None))
        if level.scope is not None:
            assert ask_twice(level.scope.real, Stop) is InterruptResult.CLOSED

    @precondition(_scopes)
    @rule(which=indices, exception=exceptions, is_overwritten=st.booleans())
    def interrupt(self, which: int, exception: type[BaseException], is_overwritten: bool) -> None:
        """Interrupt a scope from another thread, possibly while another source does the same."""
        scope = self._scope(which)
        assert ask_twice(scope.real, exception) is self._model.interrupt(scope, exception)
        if is_overwritten:
            self.interrupt_as_somebody_else()

    @precondition(_scopes)
    @rule(which=indices, exception=exceptions)
    def interrupt_itself(self, which: int, exception: type[BaseException]) -> None:
        """Interrupt a scope from its own thread."""
        scope = self._scope(which)

        def expect() -> list[object]:
            answer = self._model.interrupt(scope, exception)
            return self._model.land() or [answer]

        self._tell(partial(ask_twice, scope.real, exception), expect)

    @precondition(_scopes)
    @rule(which=indices, way=st.sampled_from(["rearm", "rearm it itself", "revoke"]))
    def take_back(self, which: int, way: str) -> None:
        """Rearm a scope from another thread or its own, or revoke its pending exception."""
        scope = self._scope(which)
        if way == "rearm":
            assert scope.real.rearm() is self._model.rearm(scope)
        elif way == "revoke":
            assert scope.real.revoke() is self._model.revoke(scope)
        else:
            self._tell(scope.real.rearm, lambda: [self._model.rearm(scope)])

    @rule()
    def interrupt_as_somebody_else(self) -> None:
        """Put an exception into the slot without looking at it."""
        set_async_exception(self._target.thread, Foreign)
        self._model.interrupt_as_somebody_else()

    def _scope(self, which: int) -> ScopeModel:
        scopes = self._scopes()
        return scopes[which % len(scopes)]

    def teardown(self) -> None:
        """Leave everything under interrupts: no exception is raised any more, and the thread is as before."""
        while self._levels:
            self.leave(None, [(len(self._levels) % 2, Stop)])
        self._tell(sys.getprofile, list)
        self._target.tell(None)
        self._target.thread.join(PATIENCE)
        gc.collect(1)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Disable garbage collection, because exceptions would hit Hypothesis's callback in the target."""
    gc.disable()
    yield
    gc.enable()


def test_the_scopes_do_what_the_model_says(core: ModuleType, no_collector: None) -> None:
    """Nested scopes, shields, protected code and other exceptions match the model in any order (1 to 3)."""
    chosen = os.environ.get("EXAMPLES")
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        partial(Machine, core),
        settings=settings(
            max_examples=int(chosen or 120),
            stateful_step_count=60,
            derandomize=chosen is None,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
