"""Special cases of greenlets: they switch where they wait, and an abort is raised there or not at all (1).

All other tests run with greenlets, too: ``make test-gevent``.
"""

from __future__ import annotations

import queue
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.middleware import Middleware
from support import PATIENCE, needs_greenlets, result_of, run_forever, wait_until, wait_until_it_waits
from test_scope import Stop, Target

from dramatiq_abort import Abort, abort, run_process
from dramatiq_abort._worker.execution import Execution
from dramatiq_abort.interrupt import InterruptResult

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from dramatiq.brokers.stub import StubBroker
    from support import Hooks

pytestmark = needs_greenlets


class OneByOne:
    """A greenlet that runs one scope after another, and waits in each until it is released."""

    def __init__(self, core: ModuleType, scopes: int) -> None:
        self.scopes = [core.Scope() for _ in range(scopes)]
        self.go = [threading.Event() for _ in range(scopes)]
        self.outcomes: list[object] = []
        self.greenlet: Any = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        import gevent

        self.greenlet = gevent.getcurrent()
        for scope, go in zip(self.scopes, self.go, strict=True):
            try:
                self.outcomes.append(scope.run(go.wait))
            except Stop:
                self.outcomes.append(Stop)

    def join(self) -> None:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


def test_what_has_ended_first_is_completed_and_the_next_is_not_hit(core: ModuleType) -> None:
    """(1, 2) An exception sent while a greenlet ends its scope is not raised in its next scope."""
    target = OneByOne(core, scopes=500)
    for number, (scope, go) in enumerate(zip(target.scopes, target.go, strict=True)):
        wait_until_it_waits(target.thread)
        if number % 2:
            go.set()  # it runs before the hub throws
            assert scope.interrupt(Stop) is InterruptResult.RAISED
        else:
            assert scope.interrupt(Stop) is InterruptResult.RAISED
            go.set()
    target.join()

    assert target.outcomes == [Stop, True] * 250


def test_the_obvious_way_hits_the_next(core: ModuleType) -> None:
    """A plain throw into a greenlet hits the next scope, which the test above would detect."""
    import gevent

    target = OneByOne(core, scopes=2)
    wait_until_it_waits(target.thread)
    target.go[0].set()
    gevent.get_hub().loop.run_callback(target.greenlet.throw, Stop)
    target.join()

    assert target.outcomes == [True, Stop]


def test_what_has_raised_first_keeps_its_exception(core: ModuleType) -> None:
    """(2) A function that has raised keeps its exception, as one that has returned keeps its result."""
    go = threading.Event()

    def function() -> None:
        go.wait()
        raise ValueError("its own")

    target = Target(core, function)
    wait_until_it_waits(target.thread)
    go.set()
    assert target.scope.interrupt(Stop) is InterruptResult.RAISED
    target.join()

    assert isinstance(target.error, ValueError)
    assert target.late is None


class Waiting(Middleware):
    """Switches greenlets around every message, like a middleware that uses the network."""

    def wait(self, broker: dramatiq.Broker, message: Any, **_: Any) -> None:
        for _turn in range(3):
            time.sleep(0)

    before_process_message = after_process_message = after_skip_message = wait
    before_ack = after_ack = before_nack = after_nack = wait


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_message_that_is_aborted_as_it_ends(
    broker: StubBroker, start_worker: Any, hooks: Hooks, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """(1, 2) A message aborted as it ends completes, and neither the greenlet, dramatiq nor the next is hit.

    The function goes on in the very moment in which the exception is sent, and ends before it comes, or waits so often.
    """
    calls: Counter[int] = Counter()
    begun: list[int] = []
    hits: list[tuple[int, str | None]] = []
    go: dict[str, threading.Event] = {}
    interrupt = Execution.interrupt

    def let_go_and_interrupt(running: Execution) -> InterruptResult:
        go[running.message_id].set()
        return interrupt(running)

    monkeypatch.setattr(Execution, "interrupt", let_go_and_interrupt)
    broker.add_middleware(Waiting())

    @dramatiq.actor(min_backoff=1, max_backoff=1)
    def task(number: int) -> int:
        calls[number] += 1
        begun.append(number)
        try:
            go[messages[number].message_id].wait()
            for _turn in range(turns):
                time.sleep(0)
        except Abort as aborted:
            hits.append((number, aborted.message_id))
            raise
        return number

    messages = [task.message(number) for number in range(200)]
    for message in messages:
        go[message.message_id] = threading.Event()
        broker.enqueue(message)
    worker: dramatiq.Worker = start_worker(worker_threads=2)

    def all_done() -> bool:
        while begun:
            abort(messages[begun.pop()].message_id)
        return sum(count for (name, _), count in list(hooks.calls.items()) if name in {"ack", "nack"}) == len(messages)

    wait_until(all_done, "the end of all messages")

    assert all(thread.is_alive() for thread in worker.workers)
    assert set(calls.values()) == set(hooks.calls.values()) == {1}
    assert all(messages[number].message_id == message_id for number, message_id in hits)
    assert {number for number, _ in hits} == (set(range(200)) if turns else set())
    for message in messages:
        assert result_of(message) == (
            ("Abort", f"message {message.message_id} was aborted") if turns else message.args[0]
        )


def test_a_storm_of_aborts(broker: StubBroker, start_worker: Any, hooks: Hooks) -> None:
    """(1, 2, 4) Short messages that are aborted around their end are counted once each, and no greenlet dies."""
    calls: Counter[int] = Counter()
    begun: list[int] = []
    strays: list[object] = []
    broker.add_middleware(Waiting())

    @dramatiq.actor(min_backoff=1, max_backoff=1)
    def task(number: int) -> int:
        calls[number] += 1
        begun.append(number)
        try:
            for turn in range(number % 23):
                time.sleep(0 if turn % 2 else 0.0001)
        except Abort as aborted:
            strays.extend({aborted.message_id} - {messages[number].message_id})
            raise
        return number

    messages = [task.message(number) for number in range(500)]
    for message in messages:
        broker.enqueue(message)
    worker: dramatiq.Worker = start_worker(worker_threads=8)

    def all_done() -> bool:
        while begun:
            abort(messages[begun.pop()].message_id)
        return sum(count for (name, _), count in list(hooks.calls.items()) if name in {"ack", "nack"}) == len(messages)

    wait_until(all_done, "the end of all messages")

    assert all(thread.is_alive() for thread in worker.workers)
    assert strays == []
    assert set(calls.values()) == set(hooks.calls.values()) == {1}
    aborted = {message_id for message_id, exception in hooks.exceptions.items() if exception is not None}
    assert {type(hooks.exceptions[message_id]) for message_id in aborted} == {Abort}
    assert 0 < len(aborted) < len(messages)
    for message in messages:
        assert (result_of(message) == message.args[0]) == (message.message_id not in aborted)


@pytest.mark.parametrize(
    "wait",
    [
        threading.Event().wait,
        queue.Queue[int]().get,
        queue.SimpleQueue[int]().get,
        threading.Semaphore(0).acquire,
        threading.Barrier(2).wait,
        Future[int]().result,
    ],
)
def test_a_wait_counts_as_safe(core: ModuleType, wait: Callable[[], object]) -> None:
    """A wait counts as safe even in protected code: it cleans up after itself."""
    target = Target(core, wait)
    wait_until_it_waits(target.thread)
    assert target.scope.interrupt(Stop) is InterruptResult.RAISED
    target.join()

    assert isinstance(target.error, Stop)


def test_a_condition_that_takes_its_lock_again_is_not_cut(core: ModuleType) -> None:
    """A condition that reacquires its lock is not interrupted, or it would release another thread's lock."""
    condition = threading.Condition(threading.Lock())
    seen: list[object] = []

    def function() -> None:
        with condition:
            condition.wait()
            seen.append(condition._is_owned())  # type: ignore[attr-defined]
        run_forever()

    target = Target(core, function)
    wait_until_it_waits(target.thread)
    with condition:
        condition.notify()
        wait_until_it_waits(target.thread)
        assert target.scope.interrupt(Stop) is InterruptResult.ARMED
        wait_until_it_waits(target.thread)
        assert target.thread.is_alive()
    target.join()

    assert isinstance(target.error, Stop)
    assert seen == [True]
    assert condition.acquire(blocking=False)


def test_a_greenlet_is_followed_out_of_protected_code(core: ModuleType) -> None:
    """An exception is raised once, at the first wait after protected code, without a second interrupt."""
    go = threading.Event()
    done: list[str] = []

    class Slow:
        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            go.wait()

    def function() -> None:
        with Slow():
            pass
        done.append("left")
        try:
            run_forever()
        except Stop:
            time.sleep(0.005)
            done.append("cleaned up")
            raise

    target = Target(core, function)
    wait_until_it_waits(target.thread)
    assert target.scope.interrupt(Stop) is InterruptResult.ARMED
    assert target.scope.interrupt(Stop) is InterruptResult.ARMED
    wait_until_it_waits(target.thread)
    assert done == []
    go.set()
    target.join()

    assert isinstance(target.error, Stop)
    assert done == ["left", "cleaned up"]


def test_a_shield_in_protected_code_is_not_skipped(core: ModuleType) -> None:
    """A greenlet that was found in a shield in protected code is interrupted after it, not before."""
    go = threading.Event()
    done: list[str] = []

    class Slow:
        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            go.wait()
            with target.scope.shield():
                done.append("shielded")
            done.append("left")

    def function() -> None:
        with Slow():
            pass
        run_forever()

    target = Target(core, function)
    wait_until_it_waits(target.thread)
    assert target.scope.interrupt(Stop) is InterruptResult.ARMED
    go.set()
    target.join()

    assert isinstance(target.error, Stop)
    assert done == ["shielded", "left"]


def test_what_is_armed_can_be_taken_back(core: ModuleType) -> None:
    """A deferred interrupt can be revoked until it is raised."""
    go, go_on = threading.Event(), threading.Event()

    class Slow:
        def __enter__(self) -> None:
            go.wait()

        def __exit__(self, *_: object) -> None: ...

    def function() -> str:
        with Slow():
            go_on.wait()
        return "went on"

    target = Target(core, function)
    wait_until_it_waits(target.thread)
    assert target.scope.interrupt(Stop) is InterruptResult.ARMED
    assert target.scope.revoke()
    go.set()
    wait_until_it_waits(target.thread)
    go_on.set()
    target.join()

    assert target.result == "went on"


def test_an_abort_that_comes_again_does_not_cut_the_end_of_a_program(worker: dramatiq.Worker, tmp_path: Path) -> None:
    """A repeated abort does not interrupt run_process() while it waits for its program's end."""
    processes: list[subprocess.CompletedProcess[Any] | None] = []
    ready = tmp_path / "ready"
    code = "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    code += "pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"

    @dramatiq.actor
    def task() -> None:
        try:
            run_process([sys.executable, "-c", code, str(ready)], abort_grace=200)
        except Abort as aborted:
            processes.append(aborted.process)
            raise

    message = task.send()
    wait_until(ready.exists, "the program")
    abort(message.message_id, repeat_every=10)

    assert result_of(message)[0] == "Abort"
    assert [process and process.returncode for process in processes] == [-signal.SIGKILL]
