"""What a worker process has of this, and no other: one that only calls ``abort()`` does not import it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq import Actor
from dramatiq.threading import is_gevent_active

from . import _blocking_calls as blocking_calls
from . import _loops as loops
from . import _safe_points as safe_points
from . import interrupt
from ._audience import Audience
from ._gil import GIL_IS_ON
from ._metrics import Metrics, is_wanted
from ._roll_call import worker_name
from ._running_messages import RunningMessages
from ._watcher import Watcher
from .outcome import OutcomeState

if TYPE_CHECKING:
    from collections.abc import Callable

    from dramatiq import Broker

    from ._abortable import Abortable
    from ._processing import Processing
    from ._running import Running
    from .backend import EventBackend

__all__ = ["WorkerSide"]


class WorkerSide:
    """The part of one ``Abortable`` in one worker process, for all brokers with the same event backend.

    From the boot of their first worker to the end of their last.
    """

    def __init__(self, abortable: Abortable, backend: EventBackend) -> None:
        self._logger = abortable.logger
        self._interrupt_blocking_calls = abortable.interrupt_blocking_calls
        self._has_signal = False
        self._has_metrics = False
        self._processings: list[Processing] = []
        self._running = RunningMessages()
        self._audience = Audience(abortable.logger)
        if abortable.on_outcome is not None:
            self._audience.listeners.append(abortable.on_outcome)
        self._watcher = Watcher(
            backend,
            self._running,
            abortable.logger,
            abortable.report_after,
            abort_ttl=abortable.abort_ttl,
            on_outcome=self._audience,
            repeat_every=lambda: abortable.repeat_every,
        )
        #: Says whether a message that is to start shall not: see the watcher.
        self.skips: Callable[[Running], bool] = self._watcher.skips

    def join(self, processing: Processing) -> None:
        """Watch for the messages of a broker, too. Return when what was asked before is known."""
        is_first = not self._processings
        self._processings.append(processing)
        self._running.add(processing.passage)
        protect_broker(type(processing.broker))
        if not self._has_metrics and is_wanted(processing.broker):
            self._has_metrics = True
            self._audience.listeners.insert(0, Metrics().observe)
        processing.watch(self)
        if is_first:
            self._start()

    def leave(self, processing: Processing) -> None:
        """Watch for them no more. Return when all threads have ended, if those were the last."""
        if self._processings == [processing]:
            self._stop()
        processing.watch(None)
        self._processings.remove(processing)
        self._running.remove(processing.passage)

    def _start(self) -> None:
        if not (interrupt.SUPPORTED or is_gevent_active()):
            self._logger.warning(
                "This interpreter cannot interrupt a thread: messages that wait are skipped, but one that is running "
                "ends only if its function asks abort_requested()."
            )
        elif not (GIL_IS_ON or is_gevent_active()):
            self._logger.warning(
                "This interpreter runs without the GIL: an abort can interrupt protected code and leave a lock locked. "
                "Set PYTHON_GIL=1 where that must not happen."
            )
        self._watcher.start()
        if not is_gevent_active():
            loops.install()
        if self._interrupt_blocking_calls and blocking_calls.SUPPORTED and not is_gevent_active():
            self._has_signal = blocking_calls.install()
            if not self._has_signal:
                self._logger.info(
                    "Blocking calls are not interrupted: this program handles SIGURG itself, or starts its worker "
                    "in another thread than the main one."
                )

    def _stop(self) -> None:
        self._watcher.stop()
        if not is_gevent_active():
            loops.remove()
        if self._has_signal:
            blocking_calls.remove()

    def tell_of(self, running: Running) -> None:
        """Tell those who are to hear of it what became of a message that somebody has asked to abort."""
        if running.is_awaited:
            self._watcher.report(running)
        if running.state in {OutcomeState.SKIPPED, OutcomeState.ABORTED}:
            self._call_back(running)

    def _call_back(self, running: Running) -> None:
        message = running.message
        try:
            processing = running.processing
            name = message.options.get("on_abort") or processing.option(message.actor_name, "on_abort")
            if name:
                processing.broker.get_actor(name).send(message.asdict(), running.outcome(worker_name()).asdict())
        except Exception:
            what = "The on_abort of message %s could not be sent."
            self._logger.exception(what, message.message_id, extra=running.fields())


def protect_broker(kind: type[Broker]) -> None:
    """Have nothing raised while a message is enqueued on a broker of this kind, whoever wrote it, or in its hooks."""
    for each in kind.__mro__:
        if "enqueue" in vars(each):
            # One that runs what it is sent at once calls the actor, whose own message's scope is inside of this one.
            safe_points.protect_function(each.__module__, "enqueue", frozenset({Actor.__call__.__name__}))
