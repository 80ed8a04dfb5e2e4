"""Abort messages, and restore them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._protocol.request import AbortMode, key_of
from .._protocol.request_batch import request_batch_of
from .._protocol.rule import AbortRule, is_rule_key, rule_key
from .._task.current import current_execution
from ..backends.errors import backend_errors
from .middleware import resolve_middleware

if TYPE_CHECKING:
    from .._middleware.abortable import Abortable
    from .._protocol.targets import Targets

__all__ = ["abort", "abort_requested", "restore"]


def abort(
    message_id: Targets,
    middleware: Abortable | None = None,
    abort_ttl: int | None = None,
    mode: AbortMode = AbortMode.ABORT,
    abort_timeout: int = 0,
    *,
    repeat_every: int | None = None,
    reason: str | None = None,
    by: str | None = None,
) -> None:
    """Abort a message, or many, on whichever worker they wait or run.

    When this returns, the request has been made, not yet carried out: a message that waits will be skipped, and one
    that runs has ``Abort`` raised in its actor's function. One that has finished is not touched.

    Parameters:
      message_id: As in ``message.message_id``; or the message, a group, a pipeline, or an iterable of those. Many are
        one round trip for a hundred.
      middleware: The ``Abortable`` of the message's broker; without it, the default broker's.
      abort_ttl: For how many milliseconds the request takes effect; without it, the middleware's. A message that is
        delayed for longer, or waits for longer, runs. Where a message itself is given, or what has it in it, and it is
        delayed, its delay comes on top, as this machine's clock has it.
      mode: With ``AbortMode.CANCEL`` a message that is running is left alone.
      abort_timeout: For how many milliseconds a running message may go on, and finish by itself. In that time
        ``abort_requested()`` tells it how many are left.
      repeat_every: After how many milliseconds ``Abort`` is raised again, and so on, in a function that has caught it
        and goes on; without it, as the worker's ``Abortable`` says. A second call may say so of an abort under way.
      reason: Why, in up to 256 characters: for the exception, the log, and the failure in the result backend. Of
        several calls, what the one says that takes effect.
      by: Who asks, the same.

    Raises:
      TypeError: When a parameter is of another type than these. Nothing has been aborted then.
      ValueError: When a message id is empty or too long, or a time is negative or too long. The same.
      ConfigurationError: A ``RuntimeError``: when no ``Abortable`` is to be found.
      BackendError: When the event backend did not take the request. Its own error is the cause; ``completed`` says how
        many it did take.
      UnsupportedByBackend: When the event backend can do no more than a plain abort, and this is more.
    """
    requests = request_batch_of(
        message_id,
        mode=mode,
        abort_timeout=abort_timeout,
        abort_ttl=abort_ttl,
        repeat_every=repeat_every,
        reason=reason,
        by=by,
    )
    asked_of = resolve_middleware(middleware)
    requests.make(asked_of.backend, asked_of.abort_ttl)


def restore(message_id: str | AbortRule, middleware: Abortable | None = None) -> bool:
    """Take an abort back, as long as the message has not been stopped.

    A message that waits will run. One that is running goes on, if ``Abort`` has not been raised in it yet: in its grace
    period, say, or behind a shield. One that was skipped or aborted stays so. A message that is to be aborted by its
    own id and by a rule is restored only from the one of them that is given here.

    Parameters:
      message_id: As in ``message.message_id``; or what ``abort_all()`` has returned, or the ``id`` of that.
      middleware: The ``Abortable`` of the message's broker; without it, the default broker's.

    Returns:
      bool: Whether there was a request to take back.

    Raises:
      TypeError: When the message id is not a string.
      ValueError: When it is empty or too long.
      ConfigurationError: A ``RuntimeError``: when no ``Abortable`` is to be found.
      BackendError: When the event backend does not answer. Its own error is the cause.
      UnsupportedByBackend: When the event backend cannot take anything back.
    """
    name = message_id.id if isinstance(message_id, AbortRule) else message_id
    names_rule = isinstance(name, str) and is_rule_key(name)
    key = rule_key(name) if names_rule else key_of(name)
    backend = resolve_middleware(middleware).backend
    with backend_errors(f"{'' if names_rule else 'message '}{name} was not restored"):
        return backend.revoke(key)


def abort_requested(message_id: str | None = None, middleware: Abortable | None = None) -> float | None:
    """Say whether a message is to be aborted, and how much time it has left.

    Parameters:
      message_id: As in ``message.message_id``; without it, the message that is being processed here.
      middleware: The ``Abortable`` of the message's broker; without it, the default broker's.

    Returns:
      float | None: How many milliseconds are left until ``Abort`` is raised, 0 when they are over; None when nobody
      has asked to abort the message. In its own actor's function this costs no round trip.

    Raises:
      TypeError: When the message id is not a string.
      ValueError: When it is empty or too long.
      ConfigurationError: A ``RuntimeError``: when no ``Abortable`` is to be found.
      BackendError: When the event backend does not answer. Its own error is the cause.
      UnsupportedByBackend: When the message is not running here, and asking the event backend may consume a signal.
    """
    if message_id is None:
        execution = current_execution()
        return None if execution is None else execution.grace_left()
    asked_of = resolve_middleware(middleware)
    key_of(message_id)
    with backend_errors(f"nothing is known of message {message_id}"):
        return asked_of.requested(message_id)
