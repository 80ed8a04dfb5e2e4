"""Snapshots as tables and text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._output import STYLES, cell, duration, table_of

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from .._protocol.snapshot import RunningMessage, Snapshot
    from ._output import Output

__all__ = ["HEADS", "as_table", "print_summary", "row", "summary"]

HEADS = ["MESSAGE", "ACTOR", "QUEUE", "WORKER", "FOR", "STATE"]


def as_table(snapshot: Snapshot, *, arguments: bool) -> Table:
    """Return a table of the running messages."""
    heads = [*HEADS, "ARGUMENTS"] if arguments else HEADS
    return table_of(heads, [row(message, arguments=arguments) for message in snapshot])


def row(message: RunningMessage, *, arguments: bool) -> list[Text]:
    """Return the cells of a message."""
    state = message.state
    if message.grace_left:
        state += f" in {duration(message.grace_left)}"
    if message.by is not None and message.grace_left is not None:
        state += f" by {message.by}"
    cells = [cell(message.message_id, "bold"), *map(cell, (message.actor, message.queue, message.worker))]
    cells += [cell(duration(message.age)), cell(state, STYLES[message.state])]
    if arguments:
        cells.append(cell(", ".join(message.arguments or ())))
    return cells


def summary(snapshot: Snapshot) -> str:
    """Return the numbers of messages and worker processes, as text."""
    messages = "1 message" if len(snapshot) == 1 else f"{len(snapshot) or 'No'} messages"
    workers = "1 worker process" if len(snapshot.workers) == 1 else f"{len(snapshot.workers)} worker processes"
    return f"{messages} on {workers}"


def print_summary(snapshot: Snapshot, output: Output, timeout: int) -> bool:
    """Print the numbers of messages and workers, and the missing replies. Return whether the snapshot is complete."""
    output.say(f"{summary(snapshot)}.")
    if not snapshot.workers:
        output.note("No workers found. Check the server and the namespace, and the workers' version of dramatiq-abort.")
    for worker in snapshot.unresponsive:
        output.note(
            cell(worker.worker),
            f" did not reply within {duration(timeout)}: it died less than a minute ago, is disconnected, or too busy.",
        )
    for worker in snapshot.workers:
        if worker.omitted:
            output.note(cell(worker.worker), f" runs {worker.omitted} more, which did not fit into its reply.")
    return not (snapshot.unresponsive or any(worker.omitted for worker in snapshot.workers))
