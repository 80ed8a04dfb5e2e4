"""A task on an ordinary worker thread may use greenlets: nothing breaks, and it is aborted (1, 5)."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.middleware import Retries
from support import PATIENCE, needs_interrupts, needs_threads, run_forever, stub_broker, wait_until
from test_safe_points import compiled_only, interrupt_once_in_a_while, interrupt_until_it_lands
from test_scope import Stop, Target

from dramatiq_abort import Abort, Abortable, OutcomeState, abort, wait_for_outcome
from dramatiq_abort.interrupt import InterruptResult

greenlet = pytest.importorskip("greenlet", reason="greenlet is not installed")

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

pytestmark = [needs_interrupts, needs_threads]


def compute() -> None:
    number = 0
    while True:
        number += 1


@pytest.mark.parametrize("work", [run_forever, compute])
def test_what_comes_up_in_a_greenlet_goes_on_to_the_function(core: ModuleType, work: Callable[[], None]) -> None:
    """An exception raised in a greenlet propagates to the greenlet that switched to it."""
    compiled_only(core)  # the pure-Python core cannot see where another thread's greenlet leads
    caught = []

    def function(started: threading.Event) -> None:
        try:
            greenlet.greenlet(lambda: (started.set(), work())).switch()
        except Stop as stop:
            caught.append(stop)
            raise

    for _ in range(10):
        started = threading.Event()
        target = Target(core, function, started)
        assert started.wait(PATIENCE)
        interrupt_once_in_a_while(target)
        assert [target.error] == caught
        caught.clear()


def test_a_greenlet_that_leads_elsewhere_is_not_cut(core: ModuleType) -> None:
    """A greenlet outside the scope is not interrupted; the one that waits for it is, once it continues."""
    entered, go_on = threading.Event(), threading.Event()
    steps = []

    def function() -> None:
        def elsewhere() -> None:
            entered.set()
            while not go_on.is_set():
                time.sleep(0.001)
            steps.append("the greenlet's end")

        # Its parent has ended, and the parent of that is protected code.
        protected = greenlet.greenlet(unraisablehook)
        protected.switch(elsewhere)
        steps.append("behind it")
        run_forever()

    def unraisablehook(work: Callable[[], None]) -> None:  # this name makes it protected
        greenlet.greenlet(work).switch()

    target = Target(core, function)
    assert entered.wait(PATIENCE)
    answers = {target.scope.interrupt(Stop) for _ in range(20)}
    go_on.set()
    interrupt_until_it_lands(target)

    assert answers <= {InterruptResult.ARMED, InterruptResult.PROTECTED}
    assert steps == ["the greenlet's end", "behind it"]
    assert isinstance(target.error, Stop)


def test_a_greenlet_without_a_frame_is_no_harm(core: ModuleType) -> None:
    """A greenlet that runs a C function has no frame, and one without a parent no caller: neither does harm."""
    for _ in range(20):
        started = threading.Event()

        def function(started: threading.Event = started) -> None:
            started.set()
            while True:
                greenlet.greenlet(time.sleep).switch(0.002)
                greenlet.greenlet(lambda: abs(-1)).switch()

        target = Target(core, function)
        assert started.wait(PATIENCE)
        interrupt_once_in_a_while(target)
        assert isinstance(target.error, Stop)


def test_greenlets_may_close_their_scopes_in_any_order(core: ModuleType) -> None:
    """Greenlets may close scopes in any order; those left, and the thread's next scope, can be interrupted."""
    main = greenlet.getcurrent()
    scopes = [core.Scope() for _ in range(3)]
    results: list[Any] = []

    def in_scope(scope: Any) -> None:
        try:
            results.append(scope.run(main.switch, ("in",)))
        except Stop:
            results.append("stopped")

    greenlets = [greenlet.greenlet(in_scope) for _ in scopes]
    for each, scope in zip(greenlets, scopes, strict=True):
        assert each.switch(scope) == "in"
    for each in greenlets:
        each.switch("out")
    scope = core.Scope()
    with pytest.raises(Stop):
        scope.run(lambda: (scope.interrupt(Stop), wait_until(lambda: False)))

    assert results == ["out"] * 3
    assert {each.interrupt(Stop) for each in scopes} == {InterruptResult.CLOSED}


@pytest.mark.slow
def test_many_greenlets_in_turn(core: ModuleType) -> None:
    """A thread that switches greenlets all the time is interrupted, and its greenlets end properly."""

    def function(started: threading.Event) -> None:
        def child() -> None:
            while True:
                with suppress(ValueError):
                    abs(-1)
                main.switch()

        main = greenlet.getcurrent()
        children = [greenlet.greenlet(child) for _ in range(5)]
        started.set()
        while True:
            for each in children:
                if not each.dead:
                    each.switch()

    for _ in range(20):
        started = threading.Event()
        target = Target(core, function, started)
        assert started.wait(PATIENCE)
        interrupt_once_in_a_while(target)
        assert isinstance(target.error, Stop)


@pytest.mark.parametrize("shape", ["join", "get", "sleep", "computing"])
def test_a_task_that_waits_for_greenlets_of_gevent_is_aborted(core: ModuleType, shape: str) -> None:
    """In an ordinary worker, a task is aborted where it waits for gevent's greenlets, not in one of them."""
    gevent = pytest.importorskip("gevent", reason="gevent is not installed")
    from gevent.pool import Pool

    broker = stub_broker(Abortable(), Retries())
    dramatiq.set_broker(broker)
    started, ends = threading.Event(), []

    def child() -> None:
        started.set()
        while True:
            gevent.sleep(0.001 if shape == "computing" else 3600)
            sum(range(1000))

    @dramatiq.actor(max_retries=0)
    def task() -> None:
        pool = Pool(3)
        try:
            children = [pool.spawn(child) for _ in range(3)]
            if shape == "get":
                children[0].get()
            elif shape == "sleep":
                gevent.sleep(3600)
            else:
                pool.join()
        except Abort as aborted:
            ends.append(aborted.message_id)
            raise
        finally:
            pool.kill()

    worker = dramatiq.Worker(broker, worker_timeout=10, worker_threads=1)
    worker.start()
    try:
        for _ in range(5):
            started.clear()
            message = task.send()
            assert started.wait(PATIENCE)
            abort(message.message_id)
            assert wait_for_outcome(message.message_id, timeout=1000 * PATIENCE).state is OutcomeState.ABORTED
            assert ends.pop() == message.message_id
    finally:
        worker.stop()

    assert not ends
