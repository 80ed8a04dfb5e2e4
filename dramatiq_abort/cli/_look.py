"""The commands that only read: rules, status, ps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from .._client import abort as client
from .._client import bulk, inspection, outcomes
from ._command import Command, time_option, time_to_wait, wait_options
from ._output import cell, duration, table_of
from ._request import ids_argument, read_ids
from ._session import where
from ._snapshot import as_table, print_summary

if TYPE_CHECKING:
    from ._session import Session

__all__ = ["ps", "rules", "status"]


@click.command("rules", cls=Command)
@where
def rules(session: Session) -> None:
    """List the rules in effect, made by abort-all."""
    found = bulk.abort_rules(session.middleware)
    rows = [
        [
            cell(rule.id, "bold"),
            cell(rule),
            rule.request.mode.value,
            duration(max(0, time.time() * 1000 - rule.before)),
            "?" if rule.ttl is None else duration(rule.ttl),
            cell(rule.request.by or ""),
            cell(rule.request.reason or ""),
        ]
        for rule in found
    ]
    if rows:
        session.output.table(table_of(["RULE", "FOR", "MODE", "SINCE", "ENDS IN", "BY", "REASON"], rows))
    else:
        session.output.say("No rules.")
    for rule in found:
        session.output.data(rule.asdict())


@click.command("status", cls=Command)
@ids_argument()
@wait_options("Wait for the outcome of each message.")
@where
def status(session: Session, ids: tuple[str, ...], *, wait: bool, wait_timeout: int | None) -> int:
    """Show the outcomes of messages with an abort request.

    Each ID is the id of a message. With -, ids are read from standard input, one per line.
    """
    timeout = time_to_wait(wait=wait, wait_timeout=wait_timeout) or 0
    pending = 0
    for outcome in outcomes.wait_for_outcomes(read_ids(ids), session.middleware, timeout=timeout):
        asked = outcome.is_known or client.abort_requested(outcome.message_id, session.middleware) is not None
        session.output.outcome(outcome, asked=asked)
        pending = pending if outcome.is_known else 1
    return pending


@click.command("ps", cls=Command)
@click.option("--arguments", is_flag=True, help="Also show the arguments of the messages.")
@time_option("--timeout", "How long to wait for replies.", default="1s")
@click.option("--watch", is_flag=True, help="Keep refreshing, and abort messages with the keyboard.")
@time_option("--every", "The refresh interval of --watch.", default="1s")
@where
def ps(session: Session, *, arguments: bool, timeout: int, watch: bool, every: int) -> int:
    """List the running messages."""
    if watch:
        from ._watch import watch as watch_running

        return watch_running(session, arguments=arguments, timeout=timeout, every=max(every, 50))
    snapshot = inspection.running(session.middleware, arguments=arguments, timeout=timeout)
    output = session.output
    if snapshot.messages:
        output.table(as_table(snapshot, arguments=arguments))
    output.data(snapshot.asdict())
    return 0 if print_summary(snapshot, output, timeout) else 1
