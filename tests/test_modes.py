"""Weaker requests than an immediate abort, on real workers: CANCEL, a grace period, a shield."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from support import PATIENCE, result_of, run_forever, wait_for_request

from dramatiq_abort import Abort, AbortMode, AbortRequest, abort, abort_requested, interrupt, shield
from dramatiq_abort._worker.execution import Execution

if TYPE_CHECKING:
    from dramatiq.brokers.stub import StubBroker

pytestmark = pytest.mark.usefixtures("core")


def test_a_cancelled_message_that_runs_is_left_alone(worker: dramatiq.Worker, start_worker: Any) -> None:
    """CANCEL leaves a running message alone, and a later abort still takes effect."""
    started, go_on = threading.Event(), threading.Event()

    @dramatiq.actor
    def task() -> str:
        started.set()
        assert go_on.wait(PATIENCE)
        return "done"

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, mode=AbortMode.CANCEL)
    canary = task.message()
    abort(canary.message_id, mode=AbortMode.CANCEL)  # received after the first one
    go_on.set()

    assert result_of(message) == "done"


def test_a_cancelled_message_that_waits_is_skipped(broker: StubBroker, start_worker: Any) -> None:
    """CANCEL skips a waiting message, like an abort."""
    calls: list[int] = []

    @dramatiq.actor
    def task() -> None:
        calls.append(1)

    message = task.send()
    abort(message.message_id, mode=AbortMode.CANCEL)
    start_worker()

    assert result_of(message) is None
    assert calls == []


def test_a_grace_period_is_never_seen_without_its_end() -> None:
    """abort_requested() during the receipt of a request never sees a grace period without its end."""
    seen = []

    class Watched(Execution):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if hasattr(self, "has_begun"):  # the last attribute that is set
                seen.append(self.grace_left())

    running = Watched(dramatiq.Message("default", "task", (), {}, {}), interrupt.Scope())
    running.accept(AbortRequest(grace=1000 * PATIENCE), None)

    assert seen[-1] is not None
    assert all(left is None or left > 0 for left in seen)


def test_a_task_uses_its_grace_period(worker: dramatiq.Worker) -> None:
    """A task sees its remaining milliseconds decrease, and finishes by itself."""
    started = threading.Event()
    seen: list[float] = []

    @dramatiq.actor
    def task() -> str:
        started.set()
        assert abort_requested() is None
        while (left := abort_requested()) is None or len(seen) < 3:
            if left is not None and left not in seen:
                seen.append(left)
            time.sleep(0.001)
        return "finished"

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, abort_timeout=60_000)

    assert result_of(message) == "finished"
    assert 60_000 >= seen[0] > seen[1] > seen[2] > 30_000


def test_a_grace_period_ends(worker: dramatiq.Worker) -> None:
    """Abort is raised when the grace period ends, not before."""
    started = threading.Event()
    left: list[float | None] = []

    @dramatiq.actor
    def task() -> None:
        try:
            run_forever(started)
        except Abort:
            left.append(abort_requested())
            raise

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, abort_timeout=50)

    assert result_of(message)[0] == "Abort"
    assert left == [0]


def test_a_second_abort_ends_the_grace_period(worker: dramatiq.Worker) -> None:
    """A second, immediate abort ends the grace period."""
    started, noticed = threading.Event(), threading.Event()

    @dramatiq.actor
    def task() -> None:
        started.set()
        wait_for_request()
        run_forever(noticed)

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id, abort_timeout=600_000)
    assert noticed.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"


def test_a_shield_completes_before_the_abort(worker: dramatiq.Worker) -> None:
    """A critical section in a shield is not interrupted."""
    inside = threading.Event()
    order: list[str] = []

    @dramatiq.actor
    def task() -> None:
        with shield():
            inside.set()
            wait_for_request()
            order.append("critical section")
        order.append("behind")

    message = task.send()
    assert inside.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    assert order == ["critical section"]
