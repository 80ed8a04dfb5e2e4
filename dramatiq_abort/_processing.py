"""A message on a worker thread, from before its processing until after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dramatiq.threading import is_gevent_active

from . import _safe_points as safe_points
from . import interrupt
from ._actor import with_abort
from ._coroutines import Scope as CoroutineScope
from ._current import current
from ._running import Running
from ._running_messages import RunningMessages
from .errors import Abort, AbortedBeforeStart, AsyncAbort
from .outcome import OutcomeState

if TYPE_CHECKING:
    from collections.abc import Callable

    from dramatiq.broker import MessageProxy

    from ._abortable import Abortable
    from ._running import ThreadScope
    from ._worker import WorkerSide

__all__ = ["Processing"]


_NO_OPTIONS: Final[dict[str, Any]] = {}


class Processing:
    """What one ``Abortable`` does with each message that this process runs."""

    def __init__(self, abortable: Abortable) -> None:
        for module in abortable.protect:
            safe_points.protect(module)
        self._abortable = abortable
        self._new_scope = _scopes()
        #: The messages that are being processed.
        self.running = RunningMessages()
        #: What hears of requests, as long as a worker runs.
        self.worker_side: WorkerSide | None = None

    def begin(self, message: MessageProxy) -> None:
        """Take a message, if it can be aborted.

        Raises:
          AbortedBeforeStart: When it is not to start.
        """
        # Each message goes through here, and the proxy looks up what is asked of it anew, in a slow way.
        plain: Any = getattr(message, "_message", message)
        options, actor_name = plain.options, plain.actor_name
        abortable = self._abortable
        wanted = options.get("abortable")
        if wanted is None:
            wanted = abortable.options.get(actor_name, _NO_OPTIONS).get("abortable")
        if not (abortable.abortable if wanted is None else wanted):
            return
        is_coroutine = actor_name in abortable.async_actors
        try:
            running = Running(plain, CoroutineScope() if is_coroutine else self._new_scope())
        except (TypeError, ValueError):  # abort() would not take its id: what somebody else has enqueued may have any
            return
        if is_coroutine:
            running.exception = AsyncAbort
            running.waiting = self._new_scope()
            running.cleanup_timeout = abortable.cleanup_timeout
        if abortable.repeat_every is not None:
            running.repeat = abortable.repeat_every
        if throws := options.get("throws"):  # goes before the actor's
            options["throws"] = with_abort(throws)
        # First the table, then the question: a request that is made in between is handed out by the watcher.
        self.running.add(running)
        current.set(running)
        worker_side = self.worker_side
        if worker_side is not None and worker_side.skips(running):
            if abortable.fail_skipped:
                message.fail()
            raise AbortedBeforeStart(f"message {message.message_id} was aborted before its start{running.says}")

    def end(self, message: MessageProxy, exception: BaseException | None) -> None:
        """Let go of a message, and tell those who are to hear of it what became of it."""
        running = current.get()
        if running is not None:
            current.set(None)
            if exception is not None:
                running.fail(exception)
            self.running.discard(running)
            # Who hears of a request from now on sees that the message is over.
            if (running.request is not None or running.declined is not None) and self.worker_side is not None:
                self.worker_side.tell_of(running)
        if exception is not None and isinstance(exception, Abort):
            message.fail()  # as Retries does, where it is not in use

    def skip(self, message: MessageProxy) -> None:
        """Let go of a message that has not started, whoever wanted that."""
        if (running := current.get()) is not None:
            running.state = OutcomeState.SKIPPED
        self.end(message, None)


def _scopes() -> Callable[[], ThreadScope]:
    """The kind of scope that goes with the worker threads: those of gevent are greenlets."""
    if is_gevent_active():
        from ._greenlets import Scope

        return Scope
    return interrupt.Scope
