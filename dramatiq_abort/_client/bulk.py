"""Abort the messages of an actor, a queue or a tag, and list the rules in effect."""

from __future__ import annotations

import time
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from .._protocol.event import Event
from .._protocol.request import AbortMode, milliseconds, validate_text
from .._protocol.request_batch import request_of
from .._protocol.rule import MAX_NAME, RULE, AbortRule, rule_key
from ..backends.errors import backend_errors
from ..errors import InvalidRequest, UnsupportedByBackend
from .middleware import resolve_middleware

if TYPE_CHECKING:
    from .._middleware.abortable import Abortable

__all__ = ["abort_all", "abort_rules"]

#: Maximum number of rules in effect at once: each message is compared with all of them.
_MAX_RULES: Final = 100


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
    """Abort every message of an actor, a queue or a tag that has been enqueued until now, waiting or running.

    This is one request, whatever the number of messages; it is kept as a rule until its time to live ends. Messages
    enqueued after the call has returned are not affected. If several of ``actor``, ``queue`` and ``tag`` are given, a
    message must match all of them.

    ::

        rule = abort_all(actor="mail", queue="default", reason="wrong text")
        restore(rule)  # messages that have not been stopped yet run after all

    A message is selected by its creation time, on the clock of the program that created it, compared with the clock of
    this machine. If the two clocks differ, messages created within that difference before or after the call may be
    selected wrongly. A message that is retried or delayed keeps its first creation time. Messages that are not
    abortable are not affected. For a message that is not running in the calling process,
    ``abort_requested(message_id)`` considers only requests for its own id.

    Parameters:
      middleware: The ``Abortable`` of the messages' broker. Defaults to that of the default broker.
      actor: The name of an actor.
      queue: The name of a queue.
      tag: One of the ``abort_tags``, an option of actors and of ``send_with_options``.
      abort_ttl: Time to live of the request in milliseconds, one day by default. A message that waits longer runs.
      mode, abort_timeout, repeat_every, reason, by: As for ``abort()``.

    Returns:
      AbortRule: The rule. ``restore()`` ends it.

    Raises:
      TypeError: If a parameter has a wrong type. Nothing has been aborted.
      ValueError: If neither an actor nor a queue nor a tag is given, a name or a time is too long, or 100 rules are in
        effect. Nothing has been aborted.
      ConfigurationError: If there is no ``Abortable`` to use. It is a ``RuntimeError``.
      BackendError: If the event backend fails. The backend's exception is the cause.
      UnsupportedByBackend: If the event backend does not support broadcasts.
    """
    names = {"actor": actor, "queue": queue, "tag": tag}
    for parameter, name in names.items():
        validate_text(parameter, name, at_most=MAX_NAME)
    if not any(names.values()):
        raise ValueError("abort_all() needs an actor, a queue or a tag")
    milliseconds("abort_ttl", abort_ttl, at_least=1)
    request = request_of(
        mode=mode, abort_timeout=abort_timeout, abort_ttl=None, repeat_every=repeat_every, reason=reason, by=by
    )
    backend = resolve_middleware(middleware).backend
    if not backend.supports_broadcast:
        raise UnsupportedByBackend(f"{type(backend).__name__} does not support broadcasts, which rules need.")
    if len(abort_rules(middleware)) >= _MAX_RULES:
        raise ValueError(
            f"{_MAX_RULES} rules are in effect, and each message is compared with all of them: restore() some first"
        )
    rule = AbortRule(int(time.time() * 1000), actor=actor, queue=queue, tag=tag, request=request, ttl=abort_ttl)
    with backend_errors(f"the messages of {rule} were not aborted"):
        backend.signal([Event(rule_key(rule.id), rule.encode(), abort_ttl)])
    while time.time() * 1000 < rule.before + 1:  # so that later messages have a later creation time
        time.sleep(0.0001)
    return rule


def abort_rules(middleware: Abortable | None = None) -> list[AbortRule]:
    """Return the rules in effect, which were made by ``abort_all()``, the oldest first.

    Parameters:
      middleware: The ``Abortable`` of a broker. Defaults to that of the default broker.

    Returns:
      list[AbortRule]: The rules, with their remaining time to live.

    Raises:
      ConfigurationError: If there is no ``Abortable`` to use. It is a ``RuntimeError``.
      BackendError: If the event backend fails. The backend's exception is the cause.
    """
    with backend_errors("the rules could not be read"):
        broadcasts = resolve_middleware(middleware).backend.broadcasts()
    live = []
    for key, event in broadcasts.items():
        if key.startswith(RULE):
            with suppress(InvalidRequest):  # workers log a warning about it
                live.append(AbortRule.decode(key, event.value, event.ttl))
    return sorted(live, key=attrgetter("before"))
