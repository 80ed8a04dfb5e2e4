"""The commands that ask for something: abort, abort-all, cancel, restore."""

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

#: How many messages are one step of the progress bar, and how many are worth one.
_STEP: Final = 1000
_MANY: Final = 2000


def me() -> str:
    """Return who calls: the user and the host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # in a container, a user may have a number alone, and no name
        user = str(os.getuid()) if hasattr(os, "getuid") else "somebody"
    return f"{user}@{socket.gethostname()}"[:MAX_TEXT]


def ids_argument(complete: Callable[..., Any] | None = None) -> Callable[[Any], Any]:
    """Make the argument for ids, which are read from standard input where it is ``-``."""
    return click.argument("ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete)


def request_options(command: Any) -> Any:
    """Add what every request may say."""
    options = [
        click.option("--reason", help="Why: for the log, the exception, and the failure in the result backend."),
        click.option("--by", default=me, show_default="user@host", help="Who asks, the same."),
        time_option("--ttl", "For how long the request takes effect.  [default: 90s; of a rule, 1d]"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def running_options(command: Any) -> Any:
    """Add what is asked of those that run."""
    options = [
        time_option("--grace", "The grace period of running messages.", default="0"),
        time_option("--repeat-every", "Raise Abort again and again in one that goes on."),
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

    Each ID is a message's. With - they are read from standard input, one to a line.
    """
    wait_for = time_to_wait(wait=wait, wait_timeout=wait_timeout)
    return _abort(session, ids, wait_for, mode=AbortMode.ABORT, abort_timeout=grace, **options)


@click.command("cancel", cls=Command)
@ids_argument()
@request_options
@wait_options("Wait for the outcome of each message.")
@where
def cancel(session: Session, ids: tuple[str, ...], *, wait: bool, wait_timeout: int | None, **options: Any) -> int:
    """Skip messages that wait, and leave alone those that run.

    Each ID is a message's. With - they are read from standard input, one to a line.
    """
    wait_for = time_to_wait(wait=wait, wait_timeout=wait_timeout)
    return _abort(session, ids, wait_for, mode=AbortMode.CANCEL, **options)


def _abort(session: Session, ids: tuple[str, ...], wait_for: int | None, *, ttl: int | None, **options: Any) -> int:
    wanted = read_ids(ids)
    for message_id in wanted:  # none, or all
        key_of(message_id)
    target, output = session.middleware, session.output
    with _progress(output, len(wanted)) as advance:
        for made in range(0, len(wanted), _STEP):
            step = wanted[made : made + _STEP]
            try:
                client.abort(step, target, ttl, **options)
            except BackendError as error:
                cause = error.__cause__
                said = (
                    f"{made + error.completed} of {len(wanted)} messages were aborted: {type(cause).__name__}: {cause}"
                )
                raise BackendError(said) from cause
            advance(len(step))
    if wait_for is None:
        output.say(f"Asked to {options['mode'].value} ", *_what(wanted), ".")
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
    """Show a progress bar where somebody sees it, and there is something to be seen."""
    if total < _MANY or not output.errors.is_terminal:
        yield lambda _: None
        return
    from rich.progress import Progress  # it takes a while

    with Progress(console=output.errors, transient=True) as progress:
        task = progress.add_task("Asking", total=total)
        yield lambda made: progress.advance(task, made)


@click.command("abort-all", cls=Command)
@click.option("--actor", help="Those of an actor.")
@click.option("--queue", help="Those of a queue.")
@click.option("--tag", help="Those with a tag.")
@click.option("--cancel", is_flag=True, help="Leave alone those that run.")
@running_options
@request_options
@where
def abort_all(session: Session, *, grace: int, ttl: int | None, cancel: bool, **options: Any) -> None:
    """Abort all messages of a kind that have been enqueued until now.

    A message must be of all that is given. Prints the rule's id, with which `restore` takes it back.
    """
    if not (options["actor"] or options["queue"] or options["tag"]):
        raise click.UsageError("all of what? Say --actor, --queue or --tag")
    if ttl is not None:
        options["abort_ttl"] = ttl
    mode = AbortMode.CANCEL if cancel else AbortMode.ABORT
    rule = bulk.abort_all(session.middleware, mode=mode, abort_timeout=grace, **options)
    session.output.say(cell(rule.id))
    session.output.data(rule.asdict())
    if not session.as_json:
        what = "Skips what waits" if cancel else "Skips what waits and stops what runs"
        session.output.note(f"{what} of ", cell(rule), f", for {duration(rule.ttl or 0)}.")


@click.command("restore", cls=Command)
@ids_argument(rule_ids)
@where
def restore(session: Session, ids: tuple[str, ...]) -> int:
    """Restore messages that have not been stopped yet: they are no longer to be aborted.

    Each ID is a message's or a rule's. With - they are read from standard input, one to a line.
    """
    status = 0
    for each in read_ids(ids):
        restored = client.restore(each, session.middleware)
        session.output.say(cell(each, "bold"), "  ", "restored" if restored else "nothing to restore")
        session.output.data({"id": each, "restored": restored})
        status = status if restored else 1
    return status


def read_ids(ids: tuple[str, ...]) -> list[str]:
    """Return the ids, each once, with those on standard input."""
    found: dict[str, None] = {}
    for each in ids:
        lines = (line.strip() for line in sys.stdin) if each == "-" else [each]
        found |= dict.fromkeys(line for line in lines if line or each != "-")
    return list(found)


def _what(ids: list[str]) -> tuple[Any, ...]:
    return ("message ", cell(ids[0], "bold")) if len(ids) == 1 else (f"{len(ids)} messages",)
