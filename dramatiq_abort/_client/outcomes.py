"""Wait for the outcomes of abort requests."""

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

#: How long one wait in another thread lasts at the most, in ms: a coroutine that is cancelled leaves it behind.
_STEP: Final = 1000


def wait_for_outcome(message_id: str, middleware: Abortable | None = None, *, timeout: int = 10_000) -> Outcome:
    """Return what became of a message that somebody has asked to abort, as soon as its worker tells.

    ::

        abort(message_id)
        outcome = wait_for_outcome(message_id)
        print(outcome.state.value, outcome.worker)

    It can be asked for an hour. Of messages that nobody has asked to abort, nothing is told, nor of those that were
    over long before: a worker process remembers its last 1,000.

    Parameters:
      message_id: As in ``message.message_id``.
      middleware: The ``Abortable`` of the message's broker; without it, the default broker's.
      timeout: For how many milliseconds to wait at the most; 0: not at all.

    Returns:
      Outcome: Its state is ``PENDING`` if no worker has told until then.

    Raises:
      TypeError: When the message id is not a string, or the timeout no integer.
      ValueError: When the message id is empty or too long, or the timeout negative or too long.
      ConfigurationError: A ``RuntimeError``: when no ``Abortable`` is to be found.
      BackendError: When the event backend does not answer. Its own error is the cause.
      UnsupportedByBackend: When workers cannot leave word with the event backend.
    """
    return next(wait_for_outcomes([message_id], middleware, timeout=timeout))


async def wait_for_outcome_async(
    message_id: str, middleware: Abortable | None = None, *, timeout: int = 10_000
) -> Outcome:
    """Do what ``wait_for_outcome`` does, for a coroutine: see there."""
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
    """Do what ``wait_for_outcome`` does for many messages: yield each outcome when it is known, the pending ones last.

    Parameters, errors: As there. ``timeout`` is for all of them together.
    """
    names = {outcome_key(message_id): message_id for message_id in message_ids}
    milliseconds("timeout", timeout, at_least=0)
    reply_store = reply_store_of(resolve_middleware(middleware).backend)
    return _outcomes(reply_store, names, time.monotonic() + timeout / 1000)


def _outcomes(reply_store: ReplyStore, names: dict[bytes, str], deadline: float) -> Iterator[Outcome]:
    while names:
        left = max(0, int((deadline - time.monotonic()) * 1000))
        with backend_errors("nothing is known of what became of them"):
            said = reply_store.wait(names, left)
        for name, reply in said.items():
            message_id = names.pop(name)
            try:
                yield Outcome.decode(message_id, reply)
            except InvalidRequest:  # nobody's word is nobody's
                yield Outcome(message_id)
        if not said and not left:
            break
    yield from map(Outcome, names.values())
