"""The commands that send requests: abort, abort-all, cancel, restore."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from .._client import abort as client
from .._client import bulk, outcomes
from .._protocol.request import MAX_TEXT, AbortMode, key_of
from ..errors import BackendError
from ._command import Command, time_option, time_to_wait, wait_options
from ._completion import rule_ids, running_ids
from ._output import cell, duration
from ._session import where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._output import Output
    from ._session import Session

__all__ = ["abort", "abort_all", "cancel", "ids_argument", "me", "read_ids", "restore"]

#: Number of messages per step of the progress bar, and minimum number for showing it.
_STEP: Final = 1000
_MANY: Final = 2000


def me() -> str:
    """Return the default requester: the user and the host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # in a container, the user may have an id without a name
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"[:MAX_TEXT]


def ids_argument(complete: Callable[..., Any] | None = None) -> Callable[[Any], Any]:
    """Return a decorator that adds the argument for ids. ``-`` reads them from standard input."""
    return click.argument("ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete)


def request_options(command: Any) -> Any:
    """Add the options of every request."""
    options = [
        click.option("--reason", help="The reason: for the log, the exception, and the result backend."),
        click.option("--by", default=me, show_default="user@host", help="The requester: for the same places."),
        time_option("--ttl", "How long the request is in effect.  [default: 90s; for abort-all, 1d]"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def running_options(command: Any) -> Any:
    """Add the options that apply to running messages."""
    options = [
        time_option("--grace", "The grace period of running messages.", default="0"),
        time_option("--repeat-every", "Raise Abort repeatedly in a message that has caught it and goes on."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command("abort", cls=Command)
@ids_argument(running_ids)
@running_options
@request_options
@wait_options("Wait for the outcome of each message.")
@where
def abort(
    session: Session, ids: tuple[str, ...], *, grace: int, wait: bool, wait_timeout: int | None, **options: Any
) -> int:
    """Abort messages, waiting or running.

    Each ID is the id of a message. With -, ids are read from standard input, one per line.
    """
    wait_for = time_to_wait(wait=wait, wait_timeout=wait_timeout)
    return _abort(session, ids, wait_for, mode=AbortMode.ABORT, abort_timeout=grace, **options)


@click.command("cancel", cls=Command)
@ids_argument()
@request_options
@wait_options("Wait for the outcome of each message.")
@where
def cancel(session: Session, ids: tuple[str, ...], *, wait: bool, wait_timeout: int | None, **options: Any) -> int:
    """Skip waiting messages, and leave running ones alone.

    Each ID is the id of a message. With -, ids are read from standard input, one per line.
    """
    wait_for = time_to_wait(wait=wait, wait_timeout=wait_timeout)
    return _abort(session, ids, wait_for, mode=AbortMode.CANCEL, **options)


def _abort(session: Session, ids: tuple[str, ...], wait_for: int | None, *, ttl: int | None, **options: Any) -> int:
    wanted = read_ids(ids)
    for message_id in wanted:  # an invalid id is an error before any request is made
        key_of(message_id)
    target, output = session.middleware, session.output
    with _progress(output, len(wanted)) as advance:
        for made in range(0, len(wanted), _STEP):
            step = wanted[made : made + _STEP]
            try:
                client.abort(step, target, ttl, **options)
            except BackendError as error:
                cause = error.__cause__
                text = (
                    f"{made + error.completed} of {len(wanted)} messages were aborted: {type(cause).__name__}: {cause}"
                )
                raise BackendError(text) from cause
            advance(len(step))
    if wait_for is None:
        output.say(f"Asked to {options['mode'].value} ", *_described(wanted), ".")
        for message_id in wanted:
            output.data({"message_id": message_id, "state": "requested"})
        return 0
    status = 0
    for outcome in outcomes.wait_for_outcomes(wanted, target, timeout=wait_for):
        output.outcome(outcome)
        status = status if outcome.is_known else 1
    return status


@contextmanager
def _progress(output: Output, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar for a large number of messages on a terminal."""
    if total < _MANY or not output.errors.is_terminal:
        yield lambda _: None
        return
    from rich.progress import Progress  # slow to import

    with Progress(console=output.errors, transient=True) as progress:
        task = progress.add_task("Sending", total=total)
        yield lambda made: progress.advance(task, made)


@click.command("abort-all", cls=Command)
@click.option("--actor", help="Messages of an actor.")
@click.option("--queue", help="Messages of a queue.")
@click.option("--tag", help="Messages with a tag.")
@click.option("--cancel", is_flag=True, help="Leave running messages alone.")
@running_options
@request_options
@where
def abort_all(session: Session, *, grace: int, ttl: int | None, cancel: bool, **options: Any) -> None:
    """Abort all messages of an actor, a queue or a tag that have been enqueued until now.

    A message must match all that are given. Prints the id of the rule, which `restore` ends.
    """
    if not (options["actor"] or options["queue"] or options["tag"]):
        raise click.UsageError("abort-all needs --actor, --queue or --tag")
    if ttl is not None:
        options["abort_ttl"] = ttl
    mode = AbortMode.CANCEL if cancel else AbortMode.ABORT
    rule = bulk.abort_all(session.middleware, mode=mode, abort_timeout=grace, **options)
    session.output.say(cell(rule.id))
    session.output.data(rule.asdict())
    if not session.as_json:
        what = "Cancels waiting" if cancel else "Aborts waiting and running"
        session.output.note(f"{what} messages of ", cell(rule), f". In effect for {duration(rule.ttl or 0)}.")


@click.command("restore", cls=Command)
@ids_argument(rule_ids)
@where
def restore(session: Session, ids: tuple[str, ...]) -> int:
    """Undo aborts of messages that have not been stopped yet, and end rules.

    Each ID is the id of a message or a rule. With -, ids are read from standard input, one per line.
    """
    status = 0
    for each in read_ids(ids):
        restored = client.restore(each, session.middleware)
        session.output.say(cell(each, "bold"), "  ", "restored" if restored else "nothing to restore")
        session.output.data({"id": each, "restored": restored})
        status = status if restored else 1
    return status


def read_ids(ids: tuple[str, ...]) -> list[str]:
    """Return the ids without duplicates, including those read from standard input."""
    found: dict[str, None] = {}
    for each in ids:
        lines = (line.strip() for line in sys.stdin) if each == "-" else [each]
        found |= dict.fromkeys(line for line in lines if line or each != "-")
    return list(found)


def _described(ids: list[str]) -> tuple[Any, ...]:
    return ("message ", cell(ids[0], "bold")) if len(ids) == 1 else (f"{len(ids)} messages",)
