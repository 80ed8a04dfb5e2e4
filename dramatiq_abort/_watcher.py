"""The thread of a worker process that hears of abort requests and passes them on to the messages that run."""

from __future__ import annotations

import random
from threading import Event as Flag
from threading import Lock, Thread
from typing import TYPE_CHECKING, Final

from ._complaints import Complaints
from ._deadlines import Deadlines
from ._reporter import Reporter
from ._roll_call import RollCall
from ._spent import SpentSignals
from ._unraisable import UnraisableAborts
from .backend import keeps_signals
from .board import Note
from .errors import InvalidRequest
from .outcome import OutcomeState, outcome_name
from .request import AbortMode, AbortRequest
from .roll import QUESTION, WITH_ARGUMENTS
from .rule import RULE, Rule

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable

    from ._running import Running
    from ._running_messages import RunningMessages
    from .backend import Event, EventBackend
    from .outcome import Outcome

__all__ = ["Watcher"]

#: For how long to wait for one event, in ms: after that a stopped watcher looks up.
_WAIT: Final = 550

#: The same for a backend that must be told all keys anew to hear of those that have been added.
_SHORT_WAIT: Final = 50

#: How long a worker's boot waits for the backend's first answer at the most, in seconds.
_LONGEST_BOOT: Final = 5.0

#: How long to wait before a backend that failed is tried again, in seconds, at first and at the most.
_BACKOFF: Final = 0.05
_LONGEST_BACKOFF: Final = 0.5

#: What a request to cancel says, among other things.
_CANCEL: Final = AbortMode.CANCEL.value.encode()

#: For how long an outcome can be read, in ms.
_OUTCOME: Final = 3_600_000

#: How many of those that have been told are not told again.
_REMEMBERED: Final = 1000


class Watcher:
    """Watches one event backend for one worker process."""

    def __init__(
        self,
        backend: EventBackend,
        running: RunningMessages,
        logger: logging.Logger,
        report_after: int | None,
        *,
        abort_ttl: int,
        on_outcome: Callable[[Outcome], object],
        repeat_every: Callable[[], int | None],
    ) -> None:
        self._backend = backend
        self._running = running
        self._logger = logger
        self._on_outcome = on_outcome
        self._repeat_every = repeat_every
        self._roll_call = RollCall(running)
        self._reporter = None if backend.board is None else Reporter(backend.board, self._roll_call.entry, logger)
        self._complaints = Complaints(logger)
        self._deadlines = Deadlines(logger, report_after)
        self._unraisable = UnraisableAborts(self._deadlines.interrupt_again)
        self._stopping = Flag()
        self._has_begun = Flag()
        self._spent = SpentSignals(backend, abort_ttl)
        #: Handed out by the backend, and not passed on yet.
        self._received: tuple[bytes, Event | None] | None = None
        self._thread = Thread(target=self._run, name="dramatiq-abort watcher", daemon=True)
        self._telling = Lock()
        self._told: dict[str, OutcomeState] = {}
        self._reporting = Lock()
        self._is_down = False

    def start(self) -> None:
        """Return when the backend has answered, or failed to: what was asked before is known to the first message."""
        self._unraisable.install()
        self._thread.start()
        self._has_begun.wait(_LONGEST_BOOT)

    def stop(self) -> None:
        """Return when all threads have ended."""
        self._stopping.set()
        self._backend.wake()
        self._thread.join()
        self._backend.wake()  # it may have begun to wait once more
        try:
            self._spent.put_back()
        except Exception as error:
            self._report_down(error)
        self._deadlines.stop()
        self._unraisable.remove()
        if self._reporter is not None:
            self._reporter.stop()

    def skips(self, running: Running) -> bool:
        """Say whether there is a live request for a message that is to start, and if so, let it be its.

        Not if the backend does not answer.
        """
        key = running.key
        if not keeps_signals(self._backend) and (others := self._running.others(running)):
            # The broker has delivered the same message again. To ask could take the signal away from the one that runs;
            # the watcher receives it for both.
            request = next((other.request for other in others if other.request is not None), None)
            if request is not None:
                running.skip(request, None)
            return request is not None
        try:
            events = self._backend.events_for(key)
        except Exception as error:
            self._report_down(error)
            return False
        for event in events:
            if event.key == key:
                request = self._decode(key, event.value)
                if request is not None:
                    running.skip(request, None)
                    return True
            elif (rule := self._rule(event)) is not None and self._matches(rule, running):
                running.skip(rule.request, event.key)
                return True
        return False

    def report(self, running: Running) -> None:
        """Tell those who have asked to abort a message what became of it."""
        if running.state is OutcomeState.FAILED:
            self._spent.add(running.key)
        self._tell(running.outcome(self._roll_call.worker))

    def _tell(self, outcome: Outcome) -> None:
        # More than one may see that somebody is to be told, and more than one may have asked.
        with self._telling:
            if self._told.get(outcome.message_id) is outcome.state:
                return
            self._told[outcome.message_id] = outcome.state
            if len(self._told) > _REMEMBERED:
                del self._told[next(iter(self._told))]
        self._on_outcome(outcome)
        if self._reporter is not None:
            self._reporter.post(Note(outcome_name(outcome.message_id), outcome.encode(), _OUTCOME))

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
                    # A question to the backend: only where it may be needed.
                    age = self._backend.age(key) if event is not None and _CANCEL in event.value else None
                    self._pass_on(key, event, age)
                    self._received = None
                self._report_up()
                backoff, wait = _BACKOFF, _WAIT
                self._has_begun.set()
            except Exception as error:
                self._report_down(error)
                self._has_begun.set()
                self._stopping.wait(backoff * random.uniform(0.5, 1.0))
                backoff = min(2 * backoff, _LONGEST_BACKOFF)

    def _receive(self, longest: int) -> tuple[bytes, Event | None] | None:
        if self._backend.hears_all:
            return self._backend.receive(self._running, longest)
        keys = [running.key for running in self._running.all()]
        if keys:
            return self._backend.receive(keys, _SHORT_WAIT)
        self._stopping.wait(_SHORT_WAIT / 1000)
        return None

    def _pass_on(self, key: bytes, event: Event | None, age: float | None) -> None:
        try:
            if event is None:
                self._take_back(key)
            elif key.startswith(QUESTION):
                self._answer(event)
            elif key.startswith(RULE):
                self._apply_rule(event, age)
            else:
                self._apply(event, age)
        except Exception:  # what nobody has thought of must not be in the way of all others
            self._logger.exception("What was signaled with key %.200r could not be passed on.", key)

    def _apply_rule(self, event: Event, age: float | None) -> None:
        rule = self._rule(event)
        if rule is not None:
            matching = [running for running in self._running.all() if self._matches(rule, running)]
            self._request(matching, rule.request, age, event.key)

    def _apply(self, event: Event, age: float | None) -> None:
        key = event.key
        request = self._decode(key, event.value)
        if request is not None:
            running = self._running.with_key(key)
            self._request(running, request, age)
            completed = None if running else self._running.completed(key)
            if completed is not None:
                self._tell(completed.outcome(self._roll_call.worker, request))
            elif not running:
                self._spent.add(key)

    def _request(
        self, messages: Iterable[Running], request: AbortRequest, age: float | None, rule: bytes | None = None
    ) -> None:
        for running in messages:
            running.repeat = running.repeat or self._repeat_every()
            if running.accept(request, age, rule):
                self._deadlines.interrupt(running)
            if running.is_over and running.is_awaited:  # by now, and its worker thread may have seen nothing of that
                self.report(running)

    def _take_back(self, key: bytes) -> None:
        is_rule = key.startswith(RULE)
        for running in self._running.all() if is_rule else self._running.with_key(key):
            if running.rule == (key if is_rule else None) and running.retract():
                names = running.message_id, running.actor_name
                self._logger.info("Message %s of actor %s goes on.", *names, extra=running.fields())

    def _matches(self, rule: Rule, running: Running) -> bool:
        message = running.message
        tags = running.processing.tags_of(message)
        return rule.matches(running.enqueued, message.actor_name, message.queue_name, tags)

    def _rule(self, event: Event) -> Rule | None:
        if not event.key.startswith(RULE):
            return None
        try:
            return Rule.decode(event.key, event.value, event.ttl)
        except InvalidRequest as error:
            self._complain_of(event.key, error)
            return None

    def _answer(self, event: Event) -> None:
        try:
            name = event.key.removeprefix(QUESTION).decode()
        except UnicodeDecodeError as error:
            self._complain_of(event.key, error)
            return
        if self._reporter is not None:
            self._reporter.post(self._roll_call.answer(name, arguments=event.value == WITH_ARGUMENTS))

    def _decode(self, key: bytes, value: bytes) -> AbortRequest | None:
        try:
            return AbortRequest.decode(value)
        except InvalidRequest as error:
            self._complain_of(key, error)
            return None

    def _complain_of(self, key: bytes, error: Exception) -> None:
        self._complaints.warning("What was signaled with key %.200r is ignored: %s.", key, error)

    def _report_down(self, error: Exception) -> None:
        with self._reporting:
            was_down, self._is_down = self._is_down, True
        if not was_down:
            self._logger.error(
                "The event backend does not answer. Messages are processed as usual; aborts take effect when it is "
                "back. %s: %s",
                type(error).__name__,
                error,
            )
            self._logger.debug("This is where it failed.", exc_info=error)

    def _report_up(self) -> None:
        with self._reporting:
            was_down, self._is_down = self._is_down, False
        if was_down:
            self._logger.info("The event backend answers again.")
