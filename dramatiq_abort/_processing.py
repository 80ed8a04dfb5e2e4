"""What only some messages need on a worker thread, from before their processing until after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dramatiq.threading import is_gevent_active

from . import _passage, interrupt
from . import _safe_points as safe_points
from ._actor import with_abort
from ._coroutines import Scope as CoroutineScope
from ._current import current
from ._running import Running
from ._running_messages import RunningMessages
from .errors import Abort, AbortedBeforeStart, AsyncAbort
from .outcome import OutcomeState
from .request import key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from dramatiq import Message
    from dramatiq.broker import MessageProxy

    from ._abortable import Abortable
    from ._running import ThreadScope
    from ._worker import WorkerSide

__all__ = ["Processing"]


class Processing:
    """What one ``Abortable`` does with the messages that this process runs."""

    def __init__(self, abortable: Abortable) -> None:
        for module in abortable.protect:
            safe_points.protect(module)
        self._abortable = abortable
        self._new_scope = new_scope = _scopes()
        #: What each of them goes through.
        self.passage = _passage.Passage(
            self,
            current,
            Running,
            new_scope,
            special=abortable.special_actors,
            are_all_special=not abortable.abortable,
        )
        #: Those that are being processed.
        self.running = RunningMessages(self.passage)
        #: What hears of requests, as long as a worker runs.
        self.worker_side: WorkerSide | None = None

    def watch(self, worker_side: WorkerSide | None) -> None:
        """Have messages ask this before they start, or nobody."""
        self.worker_side = worker_side
        self.passage.backend = None if worker_side is None else self._abortable.backend

    def take_special(self, plain: Message[Any]) -> Running | None:
        """Take a message whose options or id, or whose actor's, are not as usual."""
        abortable, options = self._abortable, plain.options
        wanted = options.get("abortable")
        if wanted is None:
            wanted = abortable.options.get(plain.actor_name, {}).get("abortable")
        if not (abortable.abortable if wanted is None else wanted):
            return None
        try:
            key_of(plain.message_id)
        except (TypeError, ValueError):  # abort() would not take its id: what somebody else has enqueued may have any
            return None
        if plain.actor_name in abortable.async_actors:
            running = Running(plain, CoroutineScope())
            running.exception = AsyncAbort
            running.waiting = self._new_scope()
            running.cleanup_timeout = abortable.cleanup_timeout
        else:
            running = Running(plain, self._new_scope())
        if throws := options.get("throws"):  # goes before the actor's
            options["throws"] = with_abort(throws)
        return running

    def ask(self, message: MessageProxy, running: Running) -> None:
        """Look for a request to abort a message that is to start.

        Raises:
          AbortedBeforeStart: When there is one.
        """
        worker_side = self.worker_side
        if worker_side is not None and worker_side.skips(running):
            if self._abortable.fail_skipped:
                message.fail()
            raise AbortedBeforeStart(f"message {message.message_id} was aborted before its start{running.says}")

    def follow(self) -> None:
        """Have an abort that waits for the end of what this thread is enqueuing raised behind it."""
        running = current.get()
        follow_itself = getattr(running.scope, "follow_itself", None) if running is not None else None
        if follow_itself is not None:  # only the pure-Python core has to be told
            follow_itself()

    def note_failure(self, message: MessageProxy, running: Running | None, exception: BaseException) -> None:
        if running is not None:
            running.fail(exception)
        if isinstance(exception, Abort):
            message.fail()  # as Retries does, where it is not in use

    def note_skip(self, running: Running) -> None:
        running.state = OutcomeState.SKIPPED

    def tell_of(self, running: Running) -> None:
        if self.worker_side is not None:
            self.worker_side.tell_of(running)


def _scopes() -> Callable[[], ThreadScope]:
    """The kind of scope that goes with the worker threads: those of gevent are greenlets."""
    if is_gevent_active():
        from ._greenlets import Scope

        return Scope
    return interrupt.Scope
