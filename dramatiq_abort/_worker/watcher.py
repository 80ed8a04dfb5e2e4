"""The thread of a worker process that receives abort requests and interrupts the running messages."""

from __future__ import annotations

import random
from threading import Event as Flag
from threading import Lock, Thread
from typing import TYPE_CHECKING, Final

from .._protocol.outcome import OutcomeState, outcome_key
from .._protocol.reply import Reply
from .._protocol.request import AbortMode, AbortRequest
from .._protocol.rule import RULE
from .._protocol.snapshot import QUESTION, WITH_ARGUMENTS
from .inspection import Inspection
from .reporter import Reporter
from .scheduler import InterruptScheduler
from .spent_signals import SpentSignals
from .unraisable import UnraisableAborts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._protocol.event import Event
    from .._protocol.outcome import Outcome
    from ..backends.base import EventBackend
    from .backend_status import BackendStatus
    from .event_reader import EventReader
    from .execution import Execution
    from .execution_table import ExecutionTable
    from .settings import Settings

__all__ = ["Watcher"]

#: How long to wait for one event, in ms. A watcher that is being stopped notices it after that time at the latest.
_WAIT: Final = 550

#: The same for a backend that must be called again to receive the signals of keys that have been added.
_SHORT_WAIT: Final = 50

#: How long a worker's boot waits for the backend's first answer, in seconds.
_START_TIMEOUT: Final = 5.0

#: How long to wait before retrying a backend that failed, in seconds: at first, and at most.
_BACKOFF: Final = 0.05
_LONGEST_BACKOFF: Final = 0.5

#: Part of the value of every request to cancel.
_CANCEL: Final = AbortMode.CANCEL.value.encode()

#: How long an outcome stays readable, in ms.
_OUTCOME_TTL: Final = 3_600_000

#: How many outcomes are remembered, so that they are not reported twice.
_REMEMBERED: Final = 1000


class Watcher:
    """Watches one event backend for one worker process."""

    def __init__(
        self,
        backend: EventBackend,
        executions: ExecutionTable,
        settings: Settings,
        *,
        reader: EventReader,
        status: BackendStatus,
        on_outcome: Callable[[Outcome], object],
    ) -> None:
        self._backend = backend
        self._executions = executions
        self._logger = logger = settings.logger
        self._reader = reader
        self._status = status
        self._on_outcome = on_outcome
        self._settings = settings
        self._inspection = Inspection(executions)
        self._reporter = (
            None if backend.reply_store is None else Reporter(backend.reply_store, self._inspection.entry, logger)
        )
        self._scheduler = InterruptScheduler(logger, settings.warn_after)
        self._unraisable = UnraisableAborts(self._scheduler.interrupt_again)
        self._stopping = Flag()
        self._has_begun = Flag()
        self._spent = SpentSignals(backend, settings.abort_ttl)
        #: The event that the backend has handed out and that has not been handled yet.
        self._received: tuple[bytes, Event | None] | None = None
        self._thread = Thread(target=self._run, name="dramatiq-abort watcher", daemon=True)
        self._publishing = Lock()
        self._published: dict[str, OutcomeState] = {}

    def start(self) -> None:
        """Start, and return when the backend has answered or failed: the first message then knows earlier requests."""
        self._unraisable.install()
        self._thread.start()
        self._has_begun.wait(_START_TIMEOUT)

    def stop(self) -> None:
        """Stop, and return when all threads have ended."""
        self._stopping.set()
        self._backend.wake()
        self._thread.join()
        self._backend.wake()  # the watcher may have started another wait
        try:
            self._spent.put_back()
        except Exception as error:
            self._status.report_down(error)
        self._scheduler.stop()
        self._unraisable.remove()
        if self._reporter is not None:
            self._reporter.stop()

    def report(self, execution: Execution) -> None:
        """Report the outcome of a message that had an abort request."""
        if execution.state is OutcomeState.FAILED:
            self._spent.add(execution.key)
        self._publish(execution.outcome(self._inspection.worker))

    def _publish(self, outcome: Outcome) -> None:
        # Several threads may find that an outcome must be reported, and a message may have several requests.
        with self._publishing:
            if self._published.get(outcome.message_id) is outcome.state:
                return
            self._published[outcome.message_id] = outcome.state
            if len(self._published) > _REMEMBERED:
                del self._published[next(iter(self._published))]
        self._on_outcome(outcome)
        if self._reporter is not None:
            self._reporter.put(Reply(outcome_key(outcome.message_id), outcome.encode(), _OUTCOME_TTL))

    def _run(self) -> None:
        backoff = _BACKOFF
        wait = 0
        while not self._stopping.is_set():
            try:
                if self._reporter is not None:
                    self._reporter.renew()
                self._spent.put_back()
                if self._received is None:
                    self._received = self._receive(wait)
                if self._received is not None:
                    key, event = self._received
                    # age() may ask the backend, so it is called only for requests that may need it.
                    age = self._backend.age(key) if event is not None and _CANCEL in event.value else None
                    self._handle(key, event, age)
                    self._received = None
                self._status.report_up()
                backoff, wait = _BACKOFF, _WAIT
                self._has_begun.set()
            except Exception as error:
                self._status.report_down(error)
                self._has_begun.set()
                self._stopping.wait(backoff * random.uniform(0.5, 1.0))
                backoff = min(2 * backoff, _LONGEST_BACKOFF)

    def _receive(self, timeout: int) -> tuple[bytes, Event | None] | None:
        if self._backend.receives_all:
            return self._backend.receive(self._executions, timeout)
        keys = [execution.key for execution in self._executions.all()]
        if keys:
            return self._backend.receive(keys, _SHORT_WAIT)
        self._stopping.wait(_SHORT_WAIT / 1000)
        return None

    def _handle(self, key: bytes, event: Event | None, age: float | None) -> None:
        try:
            if event is None:
                self._restore(key)
            elif key.startswith(QUESTION):
                self._answer(event)
            elif key.startswith(RULE):
                self._apply_rule(event, age)
            else:
                self._apply(event, age)
        except Exception:  # one event must not keep the watcher from handling the others
            self._logger.exception("Unexpected failure while handling the event with key %.200r.", key)

    def _apply_rule(self, event: Event, age: float | None) -> None:
        rule = self._reader.rule(event)
        if rule is not None:
            matching = [execution for execution in self._executions.all() if execution.matches(rule)]
            self._request(matching, rule.request, age, event.key)

    def _apply(self, event: Event, age: float | None) -> None:
        key = event.key
        request = self._reader.request(key, event.value)
        if request is not None:
            executions = self._executions.with_key(key)
            self._request(executions, request, age)
            completed = None if executions else self._executions.completed(key)
            if completed is not None:
                self._publish(completed.outcome(self._inspection.worker, request))
            elif not executions:
                self._spent.add(key)

    def _request(
        self, executions: Iterable[Execution], request: AbortRequest, age: float | None, rule: bytes | None = None
    ) -> None:
        for execution in executions:
            execution.repeat = execution.repeat or self._settings.repeat_every
            if execution.accept(request, age, rule):
                self._scheduler.interrupt(execution)
            if execution.is_over and execution.is_awaited:  # its worker thread finished it before it saw the request
                self.report(execution)

    def _restore(self, key: bytes) -> None:
        is_rule_key = key.startswith(RULE)
        for execution in self._executions.all() if is_rule_key else self._executions.with_key(key):
            if execution.rule == (key if is_rule_key else None) and execution.restore():
                names = execution.message_id, execution.actor_name
                self._logger.info(
                    "Message %s of actor %s was restored and continues.", *names, extra=execution.fields()
                )

    def _answer(self, event: Event) -> None:
        try:
            name = event.key.removeprefix(QUESTION).decode()
        except UnicodeDecodeError as error:
            self._reader.warn_of_invalid(event.key, error)
            return
        if self._reporter is not None:
            self._reporter.put(self._inspection.answer(name, arguments=event.value == WITH_ARGUMENTS))
