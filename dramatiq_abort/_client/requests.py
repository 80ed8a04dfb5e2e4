"""For those who abort: requests for one message, for many, and for all of a kind."""

from __future__ import annotations

import time
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from dramatiq import get_broker

from .._middleware.abortable import Abortable
from .._protocol.event import Event
from .._protocol.request import AbortMode, key_of, milliseconds, validate_text
from .._protocol.request_batch import backend_errors, request_batch_of, request_of
from .._protocol.rule import MAX_NAME, RULE, AbortRule, is_rule_key, rule_key
from .._task.current import current_execution
from ..errors import ConfigurationError, InvalidRequest, UnsupportedByBackend

if TYPE_CHECKING:
    from .._middleware.binding import BrokerBinding
    from .._protocol.targets import Targets

__all__ = ["abort", "abort_all", "abort_requested", "abort_rules", "resolve_middleware", "restore"]

#: How many rules there may be at once: each message is compared with all of them.
_MOST_RULES: Final = 100


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


def abort_all(
    middleware: Abortable | None = None,
    *,
    actor: str | None = None,
    queue: str | None = None,
    tag: str | None = None,
    abort_ttl: int = 86_400_000,
    mode: AbortMode = AbortMode.ABORT,
    abort_timeout: int = 0,
    repeat_every: int | None = None,
    reason: str | None = None,
    by: str | None = None,
) -> AbortRule:
    """Abort every message of a kind that has been enqueued until now, waiting or running.

    One request, whatever the number of messages; what is enqueued after this has returned is not touched. A message
    must be of all that is given. Its time is that at which it was made, on the clock of whoever made it, and it is
    compared with the clock of this machine: of messages that were made elsewhere within the difference of the two, some
    are on the wrong side. A message that is retried, or was delayed, has the time of its first making. Messages that
    cannot be aborted are not touched; and of one that is elsewhere, ``abort_requested(message_id)`` knows only what was
    asked by its own id.

    Parameters:
      middleware: The ``Abortable`` of the messages' broker; without it, the default broker's.
      actor: An actor's name.
      queue: A queue's name.
      tag: One of ``abort_tags``, an option of actors and of ``send_with_options``.
      abort_ttl: For how many milliseconds the request takes effect: a message that waits for longer, runs.
      mode, abort_timeout, repeat_every, reason, by: As ``abort()`` has them.

    Returns:
      Rule: For ``restore()``, which takes it back.

    Raises:
      TypeError: When a parameter is of another type than these. Nothing has been aborted then.
      ValueError: When none of the three is given, a name or a time is too long, or there are 100 rules. The same.
      ConfigurationError: A ``RuntimeError``: when no ``Abortable`` is to be found.
      BackendError: When the event backend did not take the request. Its own error is the cause.
      UnsupportedByBackend: When the event backend cannot tell all workers something.
    """
    names = {"actor": actor, "queue": queue, "tag": tag}
    for what, name in names.items():
        validate_text(what, name, at_most=MAX_NAME)
    if not any(names.values()):
        raise ValueError("abort_all() aborts the messages of an actor, a queue or a tag: say of which")
    milliseconds("abort_ttl", abort_ttl, at_least=1)
    request = request_of(
        mode=mode, abort_timeout=abort_timeout, abort_ttl=None, repeat_every=repeat_every, reason=reason, by=by
    )
    backend = resolve_middleware(middleware).backend
    if not backend.supports_broadcast:
        raise UnsupportedByBackend(f"{type(backend).__name__} cannot tell all workers something, so it has no rules.")
    if len(abort_rules(middleware)) >= _MOST_RULES:
        raise ValueError(f"there are {_MOST_RULES} rules, and each message is compared with all: restore() some first")
    rule = AbortRule(int(time.time() * 1000), actor=actor, queue=queue, tag=tag, request=request, ttl=abort_ttl)
    with backend_errors(f"the messages of {rule} were not aborted"):
        backend.signal([Event(rule_key(rule.id), rule.encode(), abort_ttl)])
    while time.time() * 1000 < rule.before + 1:  # what is made from now on has another time
        time.sleep(0.0001)
    return rule


def abort_rules(middleware: Abortable | None = None) -> list[AbortRule]:
    """Return the requests of ``abort_all()`` that take effect now, the oldest first.

    Parameters:
      middleware: The ``Abortable`` of a broker; without it, the default broker's.

    Raises:
      ConfigurationError: A ``RuntimeError``: when no ``Abortable`` is to be found.
      BackendError: When the event backend does not answer. Its own error is the cause.
    """
    with backend_errors("the rules are not known"):
        broadcasts = resolve_middleware(middleware).backend.broadcasts()
    live = []
    for key, event in broadcasts.items():
        if key.startswith(RULE):
            with suppress(InvalidRequest):  # the workers have a word about it in their logs
                live.append(AbortRule.decode(key, event.value, event.ttl))
    return sorted(live, key=attrgetter("before"))


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


def resolve_middleware(middleware: Abortable | None) -> Abortable | BrokerBinding:
    """Return the middleware, or the part of the default broker's that goes with that broker.

    Raises:
      TypeError: When it is none.
      ConfigurationError: When the default broker has none.
    """
    if middleware is None:
        broker = get_broker()
        for candidate in broker.middleware:
            if isinstance(candidate, Abortable):
                return candidate.bind(broker)
        raise ConfigurationError(
            "the default broker has no Abortable middleware: add one with broker.add_middleware(Abortable()), "
            "or pass the one of another broker as middleware"
        )
    if not isinstance(middleware, Abortable):
        raise TypeError(f"middleware is the broker's Abortable, not {middleware!r}")
    return middleware
