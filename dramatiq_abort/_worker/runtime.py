"""The runtime of a worker process. A process that only calls ``abort()`` does not import it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq import Actor
from dramatiq.threading import is_gevent_active

from .. import interrupt
from .._core import blocking_calls, safe_points
from .._core.gil import GIL_IS_ON
from .._protocol.outcome import OutcomeState
from . import loop_starters
from .backend_status import BackendStatus
from .event_reader import EventReader
from .execution_table import ExecutionTable
from .inspection import worker_name
from .listeners import OutcomeListeners
from .metrics import Metrics, is_wanted
from .skipping import Skipping
from .watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from dramatiq import Broker

    from ..backends.base import EventBackend
    from .broker_runtime import BrokerRuntime
    from .execution import Execution
    from .settings import Settings

__all__ = ["WorkerRuntime"]


class WorkerRuntime:
    """One ``Abortable`` in a worker process, for all of its brokers with the same event backend.

    Lives from the boot of their first worker to the end of their last.
    """

    def __init__(self, settings: Settings, backend: EventBackend) -> None:
        self._logger = settings.logger
        self._interrupt_blocking_calls = settings.interrupt_blocking_calls
        self._has_signal = False
        self._has_metrics = False
        self._runtimes: list[BrokerRuntime] = []
        self._executions = ExecutionTable()
        self._listeners = OutcomeListeners(settings.logger)
        if settings.on_outcome is not None:
            self._listeners.listeners.append(settings.on_outcome)
        reader, status = EventReader(settings.logger), BackendStatus(settings.logger)
        self._watcher = Watcher(
            backend, self._executions, settings, reader=reader, status=status, on_outcome=self._listeners
        )
        #: Returns whether a message must be skipped: see ``Skipping.skips``.
        self.skips: Callable[[Execution], bool] = Skipping(backend, self._executions, reader, status).skips

    def join(self, runtime: BrokerRuntime) -> None:
        """Watch for the messages of a broker, too. Return when the requests made so far are known."""
        is_first = not self._runtimes
        self._runtimes.append(runtime)
        self._executions.add(runtime.hooks)
        protect_broker(type(runtime.broker))
        if not self._has_metrics and is_wanted(runtime.broker):
            self._has_metrics = True
            self._listeners.listeners.insert(0, Metrics().observe)
        runtime.watch(self)
        if is_first:
            self._start()

    def leave(self, runtime: BrokerRuntime) -> None:
        """Stop watching for the messages of a broker. If it was the last, return when all threads have ended."""
        if self._runtimes == [runtime]:
            self._stop()
        runtime.watch(None)
        self._runtimes.remove(runtime)
        self._executions.remove(runtime.hooks)

    def _start(self) -> None:
        if not (interrupt.SUPPORTED or is_gevent_active()):
            self._logger.warning(
                "This interpreter cannot raise exceptions in other threads: waiting messages are skipped, but a "
                "running message stops only if its function calls checkpoint() or abort_requested()."
            )
        elif not (GIL_IS_ON or is_gevent_active()):
            self._logger.warning(
                "This interpreter runs without the GIL: an abort can interrupt protected code and leave a lock locked. "
                "Set PYTHON_GIL=1 to prevent that."
            )
        self._watcher.start()
        if not is_gevent_active():
            loop_starters.install()
        if self._interrupt_blocking_calls and blocking_calls.SUPPORTED and not is_gevent_active():
            self._has_signal = blocking_calls.install()
            if not self._has_signal:
                self._logger.info(
                    "Blocking calls are not interrupted: this program handles SIGURG itself, or starts its worker "
                    "outside the main thread."
                )

    def _stop(self) -> None:
        self._watcher.stop()
        if not is_gevent_active():
            loop_starters.remove()
        if self._has_signal:
            blocking_calls.remove()

    def report_outcome(self, execution: Execution) -> None:
        """Report the outcome of a message that had an abort request, and send its ``on_abort`` message."""
        if execution.is_awaited:
            self._watcher.report(execution)
        if execution.state in {OutcomeState.SKIPPED, OutcomeState.ABORTED}:
            self._send_on_abort(execution)

    def _send_on_abort(self, execution: Execution) -> None:
        message = execution.message
        try:
            runtime = execution.runtime
            name = message.options.get("on_abort") or runtime.option(message.actor_name, "on_abort")
            if name:
                runtime.broker.get_actor(name).send(message.asdict(), execution.outcome(worker_name()).asdict())
        except Exception:
            self._logger.exception(
                "Failed to send the on_abort message for message %s of actor %s.",
                message.message_id,
                message.actor_name,
                extra=execution.fields(),
            )


def protect_broker(kind: type[Broker]) -> None:
    """Protect ``enqueue`` of a broker class, including custom ones, and the hooks that it calls."""
    for each in kind.__mro__:
        if "enqueue" in vars(each):
            # A broker that processes each message when it is sent calls the actor in there, which can be aborted.
            safe_points.protect_function(each.__module__, "enqueue", frozenset({Actor.__call__.__name__}))
