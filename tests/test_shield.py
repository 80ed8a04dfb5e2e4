"""Shields: a test for each rule, for both cores."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support import PATIENCE, needs_gil, needs_interrupts, run_forever, wait_until, wait_until_it_waits
from test_scope import Stop, Target, interrupt_until_raised

from dramatiq_abort.interrupt import InterruptResult

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

pytestmark = pytest.mark.sanitized


@contextmanager
def inside_of(core: ModuleType, body: Any) -> Iterator[tuple[Target, threading.Event]]:
    """Run ``body(scope, reached, go_on)`` in a thread, and return it once it is inside the shield."""
    reached, go_on = threading.Event(), threading.Event()
    holder: list[Any] = []
    ready = threading.Event()

    def function() -> Any:
        assert ready.wait(PATIENCE)
        return body(holder[0].scope, reached, go_on)

    target = Target(core, function)
    holder.append(target)
    ready.set()
    assert reached.wait(PATIENCE)
    yield target, go_on
    go_on.set()
    target.join()


def test_an_interrupt_waits_for_the_shields_end(core: ModuleType) -> None:
    """An interrupt is raised at the end of the shield, after its block has completed."""
    order = []

    def body(scope: Any, reached: threading.Event, go_on: threading.Event) -> None:
        try:
            with scope.shield():
                reached.set()
                assert go_on.wait(PATIENCE)
                order.append("inside")
            order.append("behind")
        except Stop:
            order.append("raised")
            raise

    with inside_of(core, body) as (target, _):
        assert target.scope.interrupt(Stop) is InterruptResult.DEFERRED
        assert target.scope.interrupt(Stop) is InterruptResult.DEFERRED

    assert order == ["inside", "raised"]
    assert isinstance(target.error, Stop)
    assert target.late is None


def test_only_the_outermost_shields_end_raises(core: ModuleType) -> None:
    """Of nested shields, only the end of the outermost raises."""
    order = []

    def body(scope: Any, reached: threading.Event, go_on: threading.Event) -> None:
        with scope.shield():
            with scope.shield():
                reached.set()
                assert go_on.wait(PATIENCE)
            order.append("between")
            with scope.shield():
                order.append("second")
        order.append("behind")

    with inside_of(core, body) as (target, _):
        target.scope.interrupt(Stop)

    assert order == ["between", "second"]
    assert isinstance(target.error, Stop)


@needs_interrupts
def test_a_shield_without_an_interrupt_does_nothing(core: ModuleType) -> None:
    """A shield without an interrupt does nothing, and a later interrupt is raised as usual."""
    scope = core.Scope()

    def function() -> str:
        with scope.shield(), scope.shield():
            return "done"

    assert scope.run(function) == "done"

    started = threading.Event()

    def body(scope: Any, reached: threading.Event, _: threading.Event) -> None:
        with scope.shield():
            pass
        reached.set()
        run_forever(started)

    with inside_of(core, body) as (target, _):
        assert started.wait(PATIENCE)
        interrupt_until_raised(target)

    assert isinstance(target.error, Stop)


def test_an_exception_that_leaves_the_shield_is_the_context(core: ModuleType) -> None:
    """An exception that leaves the shield becomes the context of the raised one."""

    def body(scope: Any, reached: threading.Event, go_on: threading.Event) -> None:
        with scope.shield():
            reached.set()
            assert go_on.wait(PATIENCE)
            raise ValueError("inside")

    with inside_of(core, body) as (target, _):
        target.scope.interrupt(Stop)

    assert isinstance(target.error, Stop)
    assert isinstance(target.error.__context__, ValueError)


def test_a_return_through_the_shield_is_aborted(core: ModuleType) -> None:
    """A ``return`` inside the shield is aborted: the function has not returned when the shield ends."""

    def body(scope: Any, reached: threading.Event, go_on: threading.Event) -> str:
        with scope.shield():
            reached.set()
            assert go_on.wait(PATIENCE)
            return "done"

    with inside_of(core, body) as (target, _):
        target.scope.interrupt(Stop)

    assert target.result is None
    assert isinstance(target.error, Stop)


@needs_interrupts
def test_an_exception_on_its_way_comes_up_before_the_shield_or_behind_it(core: ModuleType) -> None:
    """An exception that is pending while the thread is in C code is raised before or after the shield."""
    lock = threading.Lock()
    lock.acquire()
    inside = []

    def body(scope: Any, reached: threading.Event, _: threading.Event) -> None:
        shield = scope.shield()
        reached.set()
        with lock, shield:
            inside.append("begun")
            for _number in range(1000):
                str(_number)
            inside.append("done")
        run_forever()

    with inside_of(core, body) as (target, _):
        wait_until_it_waits(target.thread)
        assert target.scope.interrupt(Stop) in {
            InterruptResult.RAISED,
            InterruptResult.ARMED,
            InterruptResult.PROTECTED,
        }
        lock.release()
        wait_until(lambda: target.scope.interrupt(Stop) is InterruptResult.CLOSED)

    assert inside in ([], ["begun", "done"])
    assert isinstance(target.error, Stop)
    assert not lock.locked()


@needs_gil
@needs_interrupts
def test_a_shield_belongs_to_its_scopes_thread(core: ModuleType) -> None:
    """A shield does nothing in another thread or outside a scope."""
    inside_other = []

    def body(scope: Any, reached: threading.Event, go_on: threading.Event) -> None:
        def other() -> None:
            assert go_on.wait(PATIENCE)
            with scope.shield():
                wait_until(lambda: scope.interrupt(Stop) is not InterruptResult.PROTECTED)
                inside_other.append(scope.interrupt(Stop))

        threading.Thread(target=other, daemon=True).start()
        reached.set()
        run_forever()

    with inside_of(core, body) as (target, _):
        pass

    wait_until(lambda: inside_other)
    assert inside_other[0] in {InterruptResult.RAISED, InterruptResult.ARMED, InterruptResult.CLOSED}
    assert isinstance(target.error, Stop)
    with core.Scope().shield():
        pass


def test_a_shield_is_entered_once(core: ModuleType) -> None:
    """Each ``with`` statement needs a new shield."""
    scope = core.Scope()

    def function() -> None:
        shield = scope.shield()
        with shield, pytest.raises(RuntimeError, match="call shield"):
            shield.__enter__()

    scope.run(function)


@needs_interrupts
def test_a_shield_in_a_generator_that_another_thread_closes(core: ModuleType) -> None:
    """If another thread closes a shield, the waiting exception is raised in the scope's thread."""
    closed = []

    def body(scope: Any, reached: threading.Event, go_on: threading.Event) -> None:
        def generator() -> Iterator[None]:
            with scope.shield():
                yield

        opened = generator()
        next(opened)
        reached.set()
        assert go_on.wait(PATIENCE)

        def close() -> None:
            opened.close()
            closed.append(True)

        thread = threading.Thread(target=close, daemon=True)
        thread.start()
        run_forever()

    with inside_of(core, body) as (target, _):
        assert target.scope.interrupt(Stop) is InterruptResult.DEFERRED

    assert isinstance(target.error, Stop)
    wait_until(lambda: closed == [True])


def test_a_shield_that_nobody_can_leave_is_over(core: ModuleType) -> None:
    """A shield that cannot be left has ended, as after another exception between entry and block on 3.14."""
    if not core.__name__.endswith("_interrupt"):
        pytest.skip("an end in Python would be another place where a foreign exception can be lost")

    def body(scope: Any, reached: threading.Event, go_on: threading.Event) -> None:
        scope.shield().__enter__()
        reached.set()
        run_forever()

    with inside_of(core, body) as (target, _):
        wait_until(lambda: target.scope.interrupt(Stop) is InterruptResult.RAISED or not target.thread.is_alive())
        wait_until(lambda: not target.thread.is_alive())

    assert isinstance(target.error, Stop)


def test_a_shield_that_is_never_left_ends_with_the_scope(core: ModuleType) -> None:
    """A shield in a forgotten generator ends with the scope, and a completed call keeps its result."""
    kept = []

    def body(scope: Any, reached: threading.Event, go_on: threading.Event) -> str:
        def generator() -> Iterator[None]:
            with scope.shield():
                yield

        kept.append(generator())
        next(kept[0])
        reached.set()
        assert go_on.wait(PATIENCE)
        return "done"

    with inside_of(core, body) as (target, _):
        assert target.scope.interrupt(Stop) is InterruptResult.DEFERRED

    kept.clear()
    assert target.result == "done"
    assert target.late is None


def test_an_outer_scopes_interrupt_waits_for_an_inner_scopes_shield(core: ModuleType) -> None:
    """An inner scope's shield also holds back the outer scope's interrupt."""
    if not core.__name__.endswith("_interrupt"):
        pytest.skip("only the compiled core knows which scopes nest")
    order = []

    def body(outer: Any, reached: threading.Event, go_on: threading.Event) -> None:
        inner = core.Scope()

        def function() -> None:
            with inner.shield():
                reached.set()
                assert go_on.wait(PATIENCE)
                order.append("inside")
            order.append("behind")

        inner.run(function)

    with inside_of(core, body) as (target, _):
        assert target.scope.interrupt(Stop) is InterruptResult.DEFERRED

    assert order == ["inside"]
    assert isinstance(target.error, Stop)


def test_a_shield_in_a_generator_holds_while_it_is_suspended(core: ModuleType) -> None:
    """A shield in a generator holds from its entry to its exit, also while the generator is suspended."""
    scope = core.Scope()
    order: list[object] = []

    def steps() -> Iterator[None]:
        with scope.shield():
            yield
            order.append("resumed")
        order.append("behind the shield")

    def function() -> None:
        for _ in steps():
            order.append(scope.interrupt(Stop))
            sum(number for number in range(100))
            order.append("suspended")

    with pytest.raises(Stop):
        scope.run(function)

    assert order == [InterruptResult.DEFERRED, "suspended", "resumed"]


def test_a_shield_that_is_entered_while_an_interrupt_waits_raises_nothing(core: ModuleType) -> None:
    """An inner shield entered while an interrupt waits raises nothing; the outer one does."""
    scope = core.Scope()
    order: list[object] = []

    def function() -> None:
        with scope.shield():
            order.append(scope.interrupt(Stop))
            with scope.shield():
                order.append("inside")
            order.append("between")

    with pytest.raises(Stop):
        scope.run(function)

    assert order == [InterruptResult.DEFERRED, "inside", "between"]


@pytest.mark.untraced
@needs_interrupts
def test_a_shield_in_the_clean_up_raises_nothing(core: ModuleType) -> None:
    """A shield in the clean-up after an exception does not raise that exception again."""
    scope = core.Scope()
    order: list[object] = []

    def function() -> None:
        try:
            scope.interrupt(Stop)
            run_forever()
        finally:
            with scope.shield():
                order.append(scope.interrupt(Stop))
            order.append("behind the shield")

    with pytest.raises(Stop):
        scope.run(function)

    assert order == [InterruptResult.RAISED, "behind the shield"]


@needs_interrupts
def test_a_shield_that_ends_in_a_context_manager_raises_behind_it(core: ModuleType) -> None:
    """A shield that ends in a context manager's code raises after the manager was entered."""
    steps = []

    def body(scope: Any, reached: threading.Event, go_on: threading.Event) -> None:
        class Guard:
            def __enter__(self) -> None:
                with scope.shield():
                    reached.set()
                    assert go_on.wait(PATIENCE)
                steps.append("entered")

            def __exit__(self, *_: object) -> None:
                steps.append("left")

        with Guard():
            run_forever()

    with inside_of(core, body) as (target, go_on):
        assert target.scope.interrupt(Stop) is InterruptResult.DEFERRED
        go_on.set()
        wait_until(
            lambda: target.scope.interrupt(Stop) in {InterruptResult.RAISED, InterruptResult.CLOSED}, "the interrupt"
        )

    assert steps == ["entered", "left"]
    assert isinstance(target.error, Stop)


@needs_interrupts
def test_the_exception_of_the_last_interrupt_comes_up(core: ModuleType) -> None:
    """The last interrupt's exception is raised, even if another was deferred before the shield."""

    class Other(BaseException): ...

    def body(scope: Any, reached: threading.Event, go_on: threading.Event) -> None:
        class Guard:
            def __enter__(self) -> None:
                scope.interrupt(Stop)
                with scope.shield():
                    reached.set()
                    assert go_on.wait(PATIENCE)

            def __exit__(self, *_: object) -> None: ...

        with Guard():
            run_forever()

    with inside_of(core, body) as (target, go_on):
        assert target.scope.interrupt(Other) is InterruptResult.DEFERRED
        go_on.set()
        wait_until(
            lambda: target.scope.interrupt(Other) in {InterruptResult.RAISED, InterruptResult.CLOSED}, "the interrupt"
        )

    assert type(target.error) is Other
