"""Wait for the outcomes of aborted messages."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from .._protocol.outcome import Outcome, outcome_key
from .._protocol.request import milliseconds
from ..backends.base import reply_store_of
from ..backends.errors import backend_errors
from ..errors import InvalidRequest
from .middleware import resolve_middleware

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .._middleware.abortable import Abortable
    from ..backends.replies import ReplyStore

__all__ = ["wait_for_outcome", "wait_for_outcome_async", "wait_for_outcomes"]

#: Maximum length of a wait in another thread, in ms: it continues after the waiting coroutine is cancelled.
_STEP: Final = 1000


def wait_for_outcome(message_id: str, middleware: Abortable | None = None, *, timeout: int = 10_000) -> Outcome:
    """Return what became of a message that was to be aborted, as soon as its worker reports it.

    ::

        abort(message_id)
        outcome = wait_for_outcome(message_id)
        print(outcome.state.value, outcome.worker)

    An outcome can be read for an hour. Workers report outcomes only for messages with an abort request. If the message
    ended before the request, its outcome is reported only if it is among the last 1,000 of its worker process.

    Parameters:
      message_id: A message id.
      middleware: The ``Abortable`` of the message's broker. Defaults to that of the default broker.
      timeout: How many milliseconds to wait at most; 0 to return at once.

    Returns:
      Outcome: The outcome. Its state is ``PENDING`` if no worker has reported it in time.

    Raises:
      TypeError: If the message id is not a str, or the timeout is not an int.
      ValueError: If the message id is empty or too long, or the timeout is negative or too long.
      ConfigurationError: If there is no ``Abortable`` to use. It is a ``RuntimeError``.
      BackendError: If the event backend fails. The backend's exception is the cause.
      UnsupportedByBackend: If the event backend has no reply store.
    """
    return next(wait_for_outcomes([message_id], middleware, timeout=timeout))


async def wait_for_outcome_async(
    message_id: str, middleware: Abortable | None = None, *, timeout: int = 10_000
) -> Outcome:
    """Return the outcome of a message without blocking the event loop.

    Parameters, return value and errors are those of ``wait_for_outcome()``.
    """
    milliseconds("timeout", timeout, at_least=0)
    deadline = time.monotonic() + timeout / 1000
    while True:
        step = min(max(0, int((deadline - time.monotonic()) * 1000)), _STEP)
        outcome = await asyncio.to_thread(wait_for_outcome, message_id, middleware, timeout=step)
        if outcome.is_known or time.monotonic() >= deadline:
            return outcome


def wait_for_outcomes(
    message_ids: Iterable[str], middleware: Abortable | None = None, *, timeout: int = 10_000
) -> Iterator[Outcome]:
    """Yield the outcomes of several messages, each as soon as it is known, and the pending ones last.

    ``timeout`` applies to all messages together. Otherwise, parameters and errors are those of ``wait_for_outcome()``.
    """
    names = {outcome_key(message_id): message_id for message_id in message_ids}
    milliseconds("timeout", timeout, at_least=0)
    reply_store = reply_store_of(resolve_middleware(middleware).backend)
    return _outcomes(reply_store, names, time.monotonic() + timeout / 1000)


def _outcomes(reply_store: ReplyStore, names: dict[bytes, str], deadline: float) -> Iterator[Outcome]:
    while names:
        left = max(0, int((deadline - time.monotonic()) * 1000))
        with backend_errors("the outcomes could not be read"):
            replies = reply_store.wait(names, left)
        for name, reply in replies.items():
            message_id = names.pop(name)
            try:
                yield Outcome.decode(message_id, reply)
            except InvalidRequest:  # a malformed reply counts as pending
                yield Outcome(message_id)
        if not replies and not left:
            break
    yield from map(Outcome, names.values())
