"""For those who abort: what came of it, requests for many messages at once, and what the workers are running."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from ._roll_call import QUESTION, WITH_ARGUMENTS, answer_name
from .backend import Event
from .errors import InvalidRequest, UnsupportedByBackend
from .middleware import asking, found, request_of
from .outcome import Outcome, outcome_name
from .request import AbortMode, milliseconds, text
from .roll import Roll, RunningMessage, answer_of, worker_of
from .rule import MAX_NAME, RULE, Rule, rule_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .backend import EventBackend
    from .board import Board
    from .middleware import Abortable

__all__ = ["abort_all", "rules", "running", "wait_for_outcome", "wait_for_outcome_async", "wait_for_outcomes"]

#: How many rules there may be at once: each message is compared with all of them.
_MOST_RULES: Final = 100

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
    names = {outcome_name(message_id): message_id for message_id in message_ids}
    milliseconds("timeout", timeout, at_least=0)
    board = _board_of(found(middleware).backend)
    return _outcomes(board, names, time.monotonic() + timeout / 1000)


def _outcomes(board: Board, names: dict[bytes, str], deadline: float) -> Iterator[Outcome]:
    while names:
        left = max(0, int((deadline - time.monotonic()) * 1000))
        with asking("nothing is known of what became of them"):
            said = board.wait(names, left)
        for name, note in said.items():
            message_id = names.pop(name)
            try:
                yield Outcome.decode(message_id, note)
            except InvalidRequest:  # nobody's word is nobody's
                yield Outcome(message_id)
        if not said and not left:
            break
    yield from map(Outcome, names.values())


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
) -> Rule:
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
        text(what, name, at_most=MAX_NAME)
    if not any(names.values()):
        raise ValueError("abort_all() aborts the messages of an actor, a queue or a tag: say of which")
    milliseconds("abort_ttl", abort_ttl, at_least=1)
    request = request_of(
        mode=mode, abort_timeout=abort_timeout, abort_ttl=None, repeat_every=repeat_every, reason=reason, by=by
    )
    middleware = found(middleware)
    backend = middleware.backend
    if not backend.tells_all:
        raise UnsupportedByBackend(f"{type(backend).__name__} cannot tell all workers something, so it has no rules.")
    if len(rules(middleware)) >= _MOST_RULES:
        raise ValueError(f"there are {_MOST_RULES} rules, and each message is compared with all: restore() some first")
    rule = Rule(int(time.time() * 1000), actor=actor, queue=queue, tag=tag, request=request, ttl=abort_ttl)
    with asking(f"the messages of {rule} were not aborted"):
        backend.signal([Event(rule_key(rule.id), rule.encode(), abort_ttl)])
    while time.time() * 1000 < rule.before + 1:  # what is made from now on has another time
        time.sleep(0.0001)
    return rule


def rules(middleware: Abortable | None = None) -> list[Rule]:
    """Return the requests of ``abort_all()`` that take effect now, the oldest first.

    Parameters:
      middleware: The ``Abortable`` of a broker; without it, the default broker's.

    Raises:
      ConfigurationError: A ``RuntimeError``: when no ``Abortable`` is to be found.
      BackendError: When the event backend does not answer. Its own error is the cause.
    """
    with asking("the rules are not known"):
        announced = found(middleware).backend.announced()
    live = []
    for key, event in announced.items():
        if key.startswith(RULE):
            with suppress(InvalidRequest):  # the workers have a word about it in their logs
                live.append(Rule.decode(key, event.value, event.ttl))
    return sorted(live, key=attrgetter("before"))


def running(middleware: Abortable | None = None, *, arguments: bool = False, timeout: int = 1_000) -> Roll:
    """Ask all worker processes which messages they are running.

    Parameters:
      middleware: The ``Abortable`` of their broker; without it, the default broker's.
      arguments: Whether to tell the messages' arguments, too, each in up to 200 characters.
      timeout: For how many milliseconds to wait for the last answer.

    Returns:
      Roll: The messages, the workers that have answered, and those that have not.

    Raises:
      TypeError: When the timeout is no integer.
      ValueError: When it is negative or too long.
      ConfigurationError: A ``RuntimeError``: when no ``Abortable`` is to be found.
      BackendError: When the event backend does not answer. Its own error is the cause.
      UnsupportedByBackend: When workers cannot be asked by the event backend.
    """
    milliseconds("timeout", timeout, at_least=0)
    backend = found(middleware).backend
    board = _board_of(backend)
    question = uuid.uuid4().hex[:16]
    asked = time.monotonic()
    messages: list[RunningMessage] = []
    with asking("nobody could be asked what is running"):
        workers = {answer_name(question, entry): worker_of(entry) for entry in board.roll()}
        said = WITH_ARGUMENTS if arguments else b""
        backend.signal([Event(QUESTION + question.encode(), said, max(timeout, 1))])
        silent = set(workers)
        while silent:
            left = max(0, timeout - int((time.monotonic() - asked) * 1000))
            heard = board.wait(silent, left)
            took = (time.monotonic() - asked) * 1000
            for name, answer in heard.items():
                workers[name], theirs = answer_of(workers[name], answer, took)
                messages += theirs
            silent -= heard.keys()
            if not heard and not left:
                break
    return Roll(sorted(messages, key=attrgetter("started")), sorted(workers.values(), key=attrgetter("worker")))


def _board_of(backend: EventBackend) -> Board:
    if backend.board is None:
        raise UnsupportedByBackend(
            f"{type(backend).__name__} has no board, so its workers cannot tell what became of messages, nor what runs."
        )
    return backend.board
