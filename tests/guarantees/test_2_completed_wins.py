"""Guarantee 2, completed wins: a message whose function has returned is not reported as aborted."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import dramatiq
import pytest
from support import PATIENCE, result_of, run_forever, wait_until

from dramatiq_abort import Abort, OutcomeState, abort, wait_for_outcome

if TYPE_CHECKING:
    from support import Hooks

pytestmark = [pytest.mark.usefixtures("core"), pytest.mark.sanitized]


def test_an_abort_that_is_swallowed_is_the_functions_affair(worker: dramatiq.Worker, hooks: Hooks) -> None:
    """(2) A message has completed if its function catches the abort and returns."""
    started = threading.Event()

    @dramatiq.actor
    def task() -> str:
        try:
            run_forever(started)
        except Abort:
            pass
        return "went on"

    message = task.send()
    assert started.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message) == "went on"
    wait_until(lambda: hooks.of(message) == {("before", 1), ("after", 1), ("ack", 1)})
    assert hooks.exceptions[message.message_id] is None


def test_a_finished_message_is_not_touched(worker: dramatiq.Worker, hooks: Hooks) -> None:
    """(2, 1) An abort after the end changes no result, and does not hit the next message on the thread."""

    @dramatiq.actor
    def task(number: int) -> int:
        return number

    messages = []
    for number in range(20):
        messages.append(task.send(number))
        assert result_of(messages[-1]) == number
        abort(messages[-1].message_id)
    outcomes = [wait_for_outcome(message.message_id, timeout=PATIENCE * 1000) for message in messages]
    worker.join()

    assert {outcome.state for outcome in outcomes} == {OutcomeState.COMPLETED}
    assert not any(hooks.exceptions.values())
