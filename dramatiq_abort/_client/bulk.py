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

#: How many rules may be in effect at once: each message is compared with all of them.
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
    if len(abort_rules(middleware)) >= _MAX_RULES:
        raise ValueError(f"there are {_MAX_RULES} rules, and each message is compared with all: restore() some first")
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
