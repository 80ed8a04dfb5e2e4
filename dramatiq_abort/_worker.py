"""What a worker process has of this, and no other: one that only calls ``abort()`` does not import it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dramatiq.threading import is_gevent_active

from . import _blocking_calls as blocking_calls
from . import _loops as loops
from . import _safe_points as safe_points
from . import interrupt
from ._audience import Audience
from ._metrics import Metrics, is_wanted
from ._roll_call import worker_name
from ._watcher import Watcher
from .outcome import OutcomeState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from dramatiq import Broker, Message

    from ._abortable import Abortable
    from ._running import Running
    from ._running_messages import RunningMessages
    from .outcome import Outcome

__all__ = ["WorkerSide"]


class WorkerSide:
    """The part of one ``Abortable`` in one worker process, from the boot of its first worker to the end of its last."""

    def __init__(
        self,
        abortable: Abortable,
        broker: Broker,
        running: RunningMessages,
        tags_of: Callable[[Message[Any]], Collection[str]],
    ) -> None:
        self._logger = abortable.logger
        self._broker = broker
        self._interrupt_blocking_calls = abortable.interrupt_blocking_calls
        self._has_signal = False
        listeners: list[Callable[[Outcome], object]] = [Metrics().observe] if is_wanted(broker) else []
        if abortable.on_outcome is not None:
            listeners.append(abortable.on_outcome)
        self._watcher = Watcher(
            abortable.backend,
            running,
            abortable.logger,
            abortable.report_after,
            abort_ttl=abortable.abort_ttl,
            tags_of=tags_of,
            on_outcome=Audience(abortable.logger, *listeners),
            repeat_every=lambda: abortable.repeat_every,
        )
        #: Says whether a message that is to start shall not: see the watcher.
        self.skips = self._watcher.skips

    def start(self) -> None:
        """Return when what was asked before is known."""
        if not (interrupt.SUPPORTED or is_gevent_active()):
            self._logger.warning(
                "This interpreter cannot interrupt a thread: messages that wait are skipped, but one that is running "
                "ends only if its function asks abort_requested()."
            )
        protect_broker(type(self._broker))
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

    def stop(self) -> None:
        """Return when all threads have ended."""
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
            name = message.options.get("on_abort") or self._broker.get_actor(message.actor_name).options.get("on_abort")
            if name:
                self._broker.get_actor(name).send(message.asdict(), running.outcome(worker_name()).asdict())
        except Exception:
            what = "The on_abort of message %s could not be sent."
            self._logger.exception(what, message.message_id, extra=running.fields())


def protect_broker(kind: type[Broker]) -> None:
    """Have nothing raised while a message is enqueued on a broker of this kind, whoever wrote it, or in its hooks."""
    for each in kind.__mro__:
        if "enqueue" in vars(each):
            safe_points.protect_function(each.__module__, "enqueue")
