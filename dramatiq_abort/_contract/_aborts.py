"""Messages are aborted on a real worker, through another backend object than the worker's."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest

from .._client.abort import abort, abort_requested, restore
from .._client.bulk import abort_all
from .._client.inspection import running
from .._client.outcomes import wait_for_outcome
from .._protocol.outcome import OutcomeState
from .._protocol.request import AbortMode, key_of
from ..backends.base import keeps_signals
from ._fixtures import Fixtures
from ._patience import HOUR, LONG, PATIENCE, wait_until
from ._stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._fixtures import MakeBackend

__all__ = ["Aborts"]


class Aborts(Fixtures):
    """``abort()`` and related functions, from the call to the message."""

    @pytest.fixture
    def stage(self, make_backend: MakeBackend) -> Iterator[Stage]:
        stage = Stage(make_backend)
        yield stage
        stage.worker.stop(timeout=LONG)
        stage.broker.close()

    def test_a_running_message_is_aborted(self, stage: Stage) -> None:
        """The next message runs."""
        task = stage.task()
        stage.worker.start()
        for _ in range(3):
            message = task.send()
            assert stage.next_report() == "runs"
            abort(message.message_id, stage.callers)
            assert stage.becomes_of(message) is OutcomeState.ABORTED

    def test_many_running_messages_are_aborted(self, stage: Stage) -> None:
        """In one call."""
        task = stage.task()
        stage.worker.start()
        messages = [task.send() for _ in range(4)]
        assert [stage.next_report() for _ in messages] == ["runs"] * 4
        abort(messages, stage.callers)

        outcomes = [stage.outcomes.get(timeout=PATIENCE) for _ in messages]
        assert {each.message_id for each in outcomes} == {message.message_id for message in messages}
        assert {each.state for each in outcomes} == {OutcomeState.ABORTED}

    def test_a_waiting_message_is_skipped(self, stage: Stage) -> None:
        """Even if its worker starts after the request. The others run."""

        def task(word: str) -> None:
            stage.reports.put(word)

        task_actor = stage.actor(task)
        message, other = task_actor.send("skipped"), task_actor.send("runs")
        abort(message.message_id, stage.callers)
        stage.worker.start()

        assert stage.becomes_of(message) is OutcomeState.SKIPPED
        assert stage.next_report() == "runs"
        if keeps_signals(stage.backend):
            assert abort_requested(message.message_id, stage.callers) is not None
            assert abort_requested(other.message_id, stage.callers) is None

    @pytest.mark.usefixtures("needs_values")
    def test_a_running_message_is_not_cancelled(self, stage: Stage) -> None:
        """Only a waiting one is."""
        go_on: SimpleQueue[None] = SimpleQueue()

        def task() -> None:
            stage.reports.put("runs")
            go_on.get(timeout=PATIENCE)
            stage.reports.put("done")

        cancelled = stage.actor(task)
        stage.worker.start()
        message = cancelled.send()
        assert stage.next_report() == "runs"
        waits = cancelled.message()
        for each in (message, waits):
            abort(each.message_id, stage.callers, mode=AbortMode.CANCEL)
        wait_until(lambda: stage.backend.poll(key_of(waits.message_id)), "the request in the worker")
        stage.broker.enqueue(waits)
        assert stage.becomes_of(waits) is OutcomeState.SKIPPED
        go_on.put(None)

        assert stage.next_report() == "done"

    @pytest.mark.usefixtures("needs_values")
    def test_a_message_has_its_grace_period(self, stage: Stage) -> None:
        """The message can read how much of it is left."""

        def task() -> None:
            stage.reports.put("runs")
            wait_until(lambda: abort_requested() is not None, "the request")
            stage.reports.put(abort_requested())

        message = stage.actor(task).send()
        stage.worker.start()
        assert stage.next_report() == "runs"
        abort(message.message_id, stage.callers, abort_timeout=HOUR, reason="why", by="whom")

        left = stage.next_report()
        assert isinstance(left, float)
        assert HOUR / 2 < left <= HOUR
        outcome = stage.outcomes.get(timeout=PATIENCE)
        assert (outcome.state, outcome.reason, outcome.by) == (OutcomeState.COMPLETED, "why", "whom")

    @pytest.mark.usefixtures("needs_values", "needs_revoke")
    def test_an_abort_is_undone(self, stage: Stage) -> None:
        """The abort of a waiting message, and that of a message in its grace period."""

        def task() -> None:
            stage.reports.put("runs")
            wait_until(lambda: abort_requested() is not None, "the request")
            stage.reports.put("asked")
            wait_until(lambda: abort_requested() is None, "its end")
            stage.reports.put("restored")

        restored = stage.actor(task)
        message = restored.send()
        abort(message.message_id, stage.callers)
        assert restore(message.message_id, stage.callers)
        assert not restore(message.message_id, stage.callers)
        stage.worker.start()
        assert stage.next_report() == "runs"
        abort(message.message_id, stage.callers, abort_timeout=HOUR)
        assert stage.next_report() == "asked"
        assert restore(message.message_id, stage.callers)

        assert stage.next_report() == "restored"

    @pytest.mark.usefixtures("needs_values", "needs_broadcast", "needs_revoke")
    def test_a_rule_applies_to_all_matching_messages(self, stage: Stage) -> None:
        """Waiting or running, until the rule is ended."""
        task = stage.task()
        stage.worker.start()
        message = task.send()
        assert stage.next_report() == "runs"
        waits, restored = task.message(), task.message()
        rule = abort_all(stage.callers, actor="task")
        assert stage.becomes_of(message) is OutcomeState.ABORTED
        stage.broker.enqueue(waits)
        assert stage.becomes_of(waits) is OutcomeState.SKIPPED

        assert restore(rule, stage.callers)
        wait_until(lambda: not stage.backend.broadcasts(), "the end of the rule in the worker")
        stage.broker.enqueue(restored)
        assert stage.next_report() == "runs"
        abort(restored.message_id, stage.callers)  # otherwise, it would never end

    @pytest.mark.usefixtures("needs_values", "needs_broadcast", "reply_store")
    def test_workers_reply(self, stage: Stage) -> None:
        """With their running messages, and with outcomes."""
        task = stage.task()
        stage.worker.start()
        message = task.send()
        assert stage.next_report() == "runs"
        wait_until(lambda: running(stage.callers, timeout=0).workers, "the worker's entry")
        snapshot = running(stage.callers, timeout=LONG)
        assert ([each.message_id for each in snapshot], list(snapshot.unresponsive)) == ([message.message_id], [])

        abort(message.message_id, stage.callers)
        assert wait_for_outcome(message.message_id, stage.callers, timeout=LONG).state is OutcomeState.ABORTED
