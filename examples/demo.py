"""Abort messages on a real dramatiq worker: ``make demo``.

The demo stops tasks in five ways and verifies each: the tasks, in ``demo_actors.py``, record in Redis what happens to
them. If that is not what should happen, the demo shows the worker's log and exits with 1. ``demo_stage.py`` starts the
server and the worker; DEMO_REDIS_URL selects another server.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import dramatiq
from demo_stage import DemoError, clean_exit, say, stage
from dramatiq.results import ResultFailure, ResultTimeout

from dramatiq_abort import OutcomeState, __version__, abort, abort_all, restore, wait_for_outcome, wait_for_outcomes

#: How long to wait for what should happen at once, in seconds.
PATIENCE = 4


def main() -> None:
    say(f"This is dramatiq-abort {__version__}.")
    with stage() as tasks:
        abort_a_running_task(tasks.count)
        cancel_a_waiting_one(tasks.count)
        let_one_finish_by_itself(tasks.copy_pages)
        leave_a_critical_section_alone(tasks.transfer)
        abort_all_that_wait(tasks.count)
    say("\nAll of this really happened, and nothing is left running.")


def abort_a_running_task(count: dramatiq.Actor[[], int]) -> None:
    say("\n1. Abort a running task")
    message = count.send()
    told(message, "at work")
    called = time.time()
    abort(message.message_id, reason="counted far enough", by="the demo")
    aborted = told(message, "aborted")
    check(aborted["pid"] != os.getpid(), "the task ran in this process")
    say(f"   A task counted, in process {aborted['pid']}, without ever checking whether to stop.")
    latency = 1000 * (aborted["time"] - called)
    say(f"   {latency:.2f} ms after the call of abort(), Abort was raised in it, at {aborted['number']}.")
    show_failure(message)
    show_outcome(message, OutcomeState.ABORTED)


def cancel_a_waiting_one(count: dramatiq.Actor[[], int]) -> None:
    say("\n2. Cancel a waiting task")
    message = count.send_with_options(delay=1000)
    abort(message.message_id, reason="no longer needed")
    result = result_of(message)
    check(result is None, f"the result is {result!r}")
    told_no_more(message)
    say("   A task was due in one second. That second has passed, and it did not start.")
    say("   Its result: None, which dramatiq stores for skipped messages.")
    show_outcome(message, OutcomeState.SKIPPED)


def let_one_finish_by_itself(copy_pages: dramatiq.Actor[[], str]) -> None:
    say("\n3. Give a task two seconds to finish by itself")
    message = copy_pages.send()
    told(message, "at work")
    abort(message.message_id, abort_timeout=2000, reason="the printer is needed")
    left = [told(message, action)["milliseconds_left"] for action in ("flushed", "closed", "renamed")]
    check(2000 >= left[0] > left[1] > left[2] > 0, f"abort_requested() said {left}")
    result = result_of(message)
    check(isinstance(result, str), f"the result is {result!r}")
    told_no_more(message)
    say("   A task copied pages until abort_requested() told it to stop.")
    say(f"   It cleaned up while {left[0]:.0f}, {left[1]:.0f} and {left[2]:.0f} ms were left, and returned.")
    say(f"   Its result: {result!r}")
    show_outcome(message, OutcomeState.COMPLETED)


def leave_a_critical_section_alone(transfer: dramatiq.Actor[[], str]) -> None:
    say("\n4. Protect a critical section")
    message = transfer.send()
    withdrawn = told(message, "withdrawn")
    abort(message.message_id, reason="the wrong account")
    deposited = told(message, "deposited")
    told(message, "aborted")
    check(not withdrawn["abort_has_come"], "the abort came before it was asked for")
    check(deposited["abort_has_come"], "the abort did not come inside the shield")
    say("   A task withdrew money inside a shield(), and the abort came before it had deposited it.")
    say("   It still made the deposit, and Abort was raised at the end of the shield.")
    show_failure(message)
    show_outcome(message, OutcomeState.ABORTED)


def abort_all_that_wait(count: dramatiq.Actor[[], int]) -> None:
    say("\n5. Abort all messages of an actor")
    messages = [count.send_with_options(delay=1000) for _ in range(100)]
    rule = abort_all(actor=count.actor_name, reason="no longer needed")
    states = [outcome.state for outcome in wait_for_outcomes(ids_of(messages), timeout=1000 * PATIENCE)]
    check(states == [OutcomeState.SKIPPED] * 100, f"they are {states}")
    check(restore(rule), "there was nothing to restore")
    say("   A hundred tasks were due in one second. One request covered them all, and none has started.")


def ids_of(messages: list[dramatiq.Message[Any]]) -> list[str]:
    return [message.message_id for message in messages]


def show_outcome(message: dramatiq.Message[Any], state: OutcomeState) -> None:
    outcome = wait_for_outcome(message.message_id, timeout=1000 * PATIENCE)
    check(outcome.state is state, f"the outcome is {outcome}")
    why = outcome.reason if outcome.by is None else f"{outcome.reason} (requested by {outcome.by})"
    say(f"   Its outcome: {outcome.state.value}, reported by worker {outcome.worker}. Reason: {why}.")


def told(message: dramatiq.Message[Any], event: str) -> dict[str, Any]:
    """Wait for the task's next record, which must be this event."""
    broker: Any = dramatiq.get_broker()
    reply = broker.client.blpop([f"{broker.namespace}:{message.message_id}"], timeout=PATIENCE)
    check(reply is not None, f"{message.actor_name} did not record {event!r} within {PATIENCE} seconds")
    entry: dict[str, Any] = json.loads(reply[1])
    check(entry["event"] == event, f"{message.actor_name} should have recorded {event!r}, not {entry}")
    return entry


def told_no_more(message: dramatiq.Message[Any]) -> None:
    broker: Any = dramatiq.get_broker()
    more = broker.client.lrange(f"{broker.namespace}:{message.message_id}", 0, -1)
    check(not more, f"{message.actor_name} should not have recorded {more}")


def result_of(message: dramatiq.Message[Any]) -> Any:
    """Wait for the message in the result backend, and return its result or its failure."""
    try:
        return message.get_result(block=True, timeout=1000 * PATIENCE)
    except ResultFailure as failure:
        return failure
    except ResultTimeout:
        raise DemoError(f"{message.actor_name} had no result within {PATIENCE} seconds") from None


def show_failure(message: dramatiq.Message[Any]) -> None:
    result = result_of(message)
    check(isinstance(result, ResultFailure) and result.orig_exc_type == "Abort", f"the result is {result!r}")
    told_no_more(message)
    say(f"   Its result, a failure: {result}")


def check(what_should_be: object, otherwise: str) -> None:
    if not what_should_be:
        raise DemoError(otherwise)


if __name__ == "__main__":
    clean_exit(main)
