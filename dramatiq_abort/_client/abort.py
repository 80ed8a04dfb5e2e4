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
    """Abort one or more messages, whether they are waiting or running, on any worker.

    A waiting message is skipped when a worker takes it. A running message has ``Abort`` raised in its actor's function.
    A message that has finished is left alone. The call only sends the request: when it returns, the request is in
    effect, but a running message may not have stopped yet. Use ``wait_for_outcome()`` to wait for that.

    ::

        message = resize.send("a.png")
        abort(message.message_id, reason="wrong size", by="Ann")

    Parameters:
      message_id: A message id, a message, a group, a pipeline, or an iterable of these. Many messages take one
        round trip per hundred.
      middleware: The ``Abortable`` of the message's broker. Defaults to that of the default broker.
      abort_ttl: Time to live of the request in milliseconds. Defaults to that of the middleware. A message that waits
        longer, or is delayed for longer, runs. The delay of a delayed message is added if the message itself is
        passed, alone or in a group, pipeline or iterable, rather than its id; it is measured by this machine's clock.
      mode: With ``AbortMode.CANCEL``, a running message is left alone.
      abort_timeout: Grace period in milliseconds: the time that a running message is given to finish by itself.
        During it, ``abort_requested()`` returns to the message how much is left.
      repeat_every: Interval in milliseconds at which ``Abort`` is raised again in a function that has caught it and
        goes on. Defaults to that of the worker's ``Abortable``. A second call can set it for an abort in progress.
      reason: The reason, in up to 256 characters. It appears in the exception, in the log, and in the failure in the
        result backend. If there are several requests for a message, it is that of the request in effect.
      by: The requester, in up to 256 characters. It appears in the same places.

    Raises:
      TypeError: If a parameter has a wrong type. Nothing has been aborted.
      ValueError: If a message id is empty or too long, or a time is negative or too long. Nothing has been aborted.
      ConfigurationError: If there is no ``Abortable`` to use. It is a ``RuntimeError``.
      BackendError: If the event backend fails. The backend's exception is the cause; ``completed`` is the number of
        requests sent before that.
      UnsupportedByBackend: If the event backend supports only plain aborts, and this is more.
    """
    batch = request_batch_of(
        message_id,
        mode=mode,
        abort_timeout=abort_timeout,
        abort_ttl=abort_ttl,
        repeat_every=repeat_every,
        reason=reason,
        by=by,
    )
    resolved = resolve_middleware(middleware)
    batch.make(resolved.backend, resolved.abort_ttl)


def restore(message_id: str | AbortRule, middleware: Abortable | None = None) -> bool:
    """Undo an abort that has not taken effect yet, or end a rule.

    A waiting message will run. A running message goes on if ``Abort`` has not been raised in it yet, because it is in
    its grace period or inside a shield, for example. A message that was already skipped or aborted stays so. If a
    message is to be aborted both by its own id and by a rule, only the request passed here is undone.

    Parameters:
      message_id: A message id, a rule returned by ``abort_all()``, or the ``id`` of a rule.
      middleware: The ``Abortable`` of the message's broker. Defaults to that of the default broker.

    Returns:
      bool: Whether there was a request to undo.

    Raises:
      TypeError: If the message id is not a str.
      ValueError: If it is empty or too long.
      ConfigurationError: If there is no ``Abortable`` to use. It is a ``RuntimeError``.
      BackendError: If the event backend fails. The backend's exception is the cause.
      UnsupportedByBackend: If the event backend cannot revoke events.
    """
    name = message_id.id if isinstance(message_id, AbortRule) else message_id
    names_rule = isinstance(name, str) and is_rule_key(name)
    key = rule_key(name) if names_rule else key_of(name)
    backend = resolve_middleware(middleware).backend
    with backend_errors(f"{'' if names_rule else 'message '}{name} was not restored"):
        return backend.revoke(key)


def abort_requested(message_id: str | None = None, middleware: Abortable | None = None) -> float | None:
    """Return how much time is left until a message is aborted, or None if it is not to be aborted.

    An actor's function calls it without parameters to check its own message, which needs no round trip::

        if abort_requested() is not None:
            save_and_stop()

    Parameters:
      message_id: A message id. Defaults to the message being processed by the calling code.
      middleware: The ``Abortable`` of the message's broker. Defaults to that of the default broker.

    Returns:
      float | None: The milliseconds left until ``Abort`` is raised, 0 when the grace period is over; None if there is
      no abort request for the message.

    Raises:
      TypeError: If the message id is not a str.
      ValueError: If it is empty or too long.
      ConfigurationError: If there is no ``Abortable`` to use. It is a ``RuntimeError``.
      BackendError: If the event backend fails. The backend's exception is the cause.
      UnsupportedByBackend: If the message is not running in this process, and querying the event backend could consume
        its signal.
    """
    if message_id is None:
        execution = current_execution()
        return None if execution is None else execution.grace_left()
    resolved = resolve_middleware(middleware)
    key_of(message_id)
    with backend_errors(f"nothing is known of message {message_id}"):
        return resolved.requested(message_id)
