"""Requests to abort messages, from the parameters of ``abort()`` to the event backend."""

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
    """Carries requests: an event backend."""

    def signal(self, events: Iterable[Event], /) -> None:
        """Signal many events."""


class RequestBatch(NamedTuple):
    """One request for each of some messages, not made yet.

    Parameters:
      targets: The messages.
      keys: By which an event backend knows them.
      request: What is asked of each.
    """

    targets: list[Target]
    keys: list[bytes]
    request: AbortRequest

    def make(self, backend: Carrier, abort_ttl: int) -> None:
        """Signal all of them.

        Parameters:
          backend: Carries them.
          abort_ttl: For how many milliseconds they take effect, unless they say so themselves.

        Raises:
          BackendError: When the backend did not take one of them.
          UnsupportedByBackend: When the backend can do no more than a plain abort, and this is more.
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
    """Check what ``abort()`` has been given.

    Raises:
      TypeError, ValueError: As there.
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
    """Make a request of what ``abort()`` or ``abort_all()`` has been given.

    Raises:
      TypeError, ValueError: As there.
    """
    if not isinstance(mode, AbortMode):
        raise TypeError(f"mode is an AbortMode, as in AbortMode.CANCEL, not {mode!r}")
    grace = milliseconds("abort_timeout", abort_timeout, at_least=0)
    if repeat_every is not None:
        milliseconds("repeat_every", repeat_every, at_least=1)
    return AbortRequest(mode, grace, abort_ttl, repeat_every, validate_text("reason", reason), validate_text("by", by))


def _not_aborted(targets: list[Target], completed: int, error: Exception) -> BackendError:
    """Say how far an abort has come."""
    what = f"message {targets[completed].message_id} was not aborted"
    if len(targets) > 1:
        what = f"{completed} of {len(targets)} messages were aborted; {what}, nor were those behind it"
    stopped = BackendError(f"{what}: {type(error).__name__}: {error}")
    stopped.completed = completed
    return stopped
