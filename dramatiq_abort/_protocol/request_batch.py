"""Create abort requests from the parameters of ``abort()``, and send them through an event backend."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .._protocol.event import MAX_EVENTS, Event
from ..errors import AbortError, BackendError
from .request import MAX_TIME, AbortMode, AbortRequest, key_of, milliseconds, validate_text
from .targets import targets_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .targets import Target, Targets

__all__ = ["RequestBatch", "request_batch_of", "request_of"]


class Carrier(Protocol):
    """The part of an event backend that sends requests."""

    def signal(self, events: Iterable[Event], /) -> None:
        """Signal the events."""


class RequestBatch(NamedTuple):
    """The same request for one or more messages, before it is sent.

    Parameters:
      targets: The messages.
      keys: The keys of their events, in the same order.
      request: The request.
    """

    targets: list[Target]
    keys: list[bytes]
    request: AbortRequest

    def make(self, backend: Carrier, abort_ttl: int) -> None:
        """Send the requests.

        Parameters:
          backend: The event backend.
          abort_ttl: Time to live in milliseconds of a request that has none.

        Raises:
          BackendError: If the backend fails. ``completed`` is the number of requests sent before that.
          UnsupportedByBackend: If the backend supports only plain aborts, and this is more.
        """
        ttl = abort_ttl if self.request.ttl is None else self.request.ttl
        now = time.time() * 1000
        events = []
        for target, key in zip(self.targets, self.keys, strict=True):
            delay = 0 if target.eta is None else max(0, int(target.eta - now))
            request = self.request._replace(ttl=min(ttl + delay, MAX_TIME))
            events.append(Event(key, request.encode(), request.ttl, request.priority))
        completed = 0
        try:
            while step := events[completed : completed + MAX_EVENTS]:
                backend.signal(step)
                completed += len(step)
        except AbortError:
            raise
        except Exception as error:
            raise _not_aborted(self.targets, completed, error) from error


def request_batch_of(
    messages: Targets,
    *,
    mode: AbortMode,
    abort_timeout: int,
    abort_ttl: int | None,
    repeat_every: int | None,
    reason: str | None,
    by: str | None,
) -> RequestBatch:
    """Validate the parameters of ``abort()``, and return the requests to be sent.

    Raises:
      TypeError, ValueError: As for ``abort()``.
    """
    if abort_ttl is not None:
        milliseconds("abort_ttl", abort_ttl, at_least=1)
    request = request_of(
        mode=mode, abort_timeout=abort_timeout, abort_ttl=abort_ttl, repeat_every=repeat_every, reason=reason, by=by
    )
    targets = list(targets_of(messages))
    return RequestBatch(targets, [key_of(target.message_id) for target in targets], request)


def request_of(
    *,
    mode: AbortMode,
    abort_timeout: int,
    abort_ttl: int | None,
    repeat_every: int | None,
    reason: str | None,
    by: str | None,
) -> AbortRequest:
    """Create a request from the parameters of ``abort()`` or ``abort_all()``.

    Raises:
      TypeError, ValueError: As for these functions.
    """
    if not isinstance(mode, AbortMode):
        raise TypeError(f"mode must be an AbortMode, as in AbortMode.CANCEL, not {mode!r}")
    grace = milliseconds("abort_timeout", abort_timeout, at_least=0)
    if repeat_every is not None:
        milliseconds("repeat_every", repeat_every, at_least=1)
    return AbortRequest(mode, grace, abort_ttl, repeat_every, validate_text("reason", reason), validate_text("by", by))


def _not_aborted(targets: list[Target], completed: int, error: Exception) -> BackendError:
    """Return the error for a batch that failed after ``completed`` messages."""
    what = f"message {targets[completed].message_id} was not aborted"
    if len(targets) > 1:
        what = f"{completed} of {len(targets)} messages were aborted; {what}, nor were those after it"
    stopped = BackendError(f"{what}: {type(error).__name__}: {error}")
    stopped.completed = completed
    return stopped
