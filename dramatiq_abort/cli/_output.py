"""Output for people and programs."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .._protocol.request import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._protocol.outcome import Outcome

__all__ = ["STYLES", "Output", "PipeClosed", "cell", "duration", "outcome_line", "table_of"]

#: The style of each state.
STYLES: Final = {
    "pending": "yellow",
    "skipped": "green",
    "aborted": "green",
    "completed": "cyan",
    "failed": "red",
    "running": "",
    "to be aborted": "yellow",
    "aborting": "red",
}

#: Width of the output when it is not a terminal, in characters: lines are not wrapped, so that programs can read them.
_UNLIMITED: Final = 100_000


class PipeClosed(Exception):
    """The program that reads the output has closed the pipe."""


class _Console(Console):
    def on_broken_pipe(self) -> None:  # by default, it exits the process
        raise PipeClosed


class Output:
    """Prints the output of a command, for people or as JSON.

    Parameters:
      as_json: Whether to print JSON, and nothing else, to standard output.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        # Escape characters that the encoding lacks, rather than failing.
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        self.console: Final = _console(stderr=False)
        self.errors: Final = _console(stderr=True)

    def say(self, *parts: str | Text | tuple[str, str]) -> None:
        """Print a line, unless the output is JSON."""
        if not self.as_json:
            self._print(self.console, Text.assemble(*parts))

    def note(self, *parts: str | Text | tuple[str, str]) -> None:
        """Print a line to standard error."""
        self._print(self.errors, Text.assemble(*parts))

    def table(self, table: Table) -> None:
        """Print a table, unless the output is JSON."""
        if not self.as_json:
            self._print(self.console, table)

    def data(self, data: object) -> None:
        """Print a line of JSON, if the output is JSON."""
        if self.as_json:
            try:
                print(json.dumps(data), flush=True)  # noqa: T201
            except BrokenPipeError:
                raise PipeClosed from None

    def outcome(self, outcome: Outcome, *, asked: bool = True) -> None:
        """Print what became of a message.

        Parameters:
          outcome: The outcome.
          asked: Whether there is an abort request for the message.
        """
        self.say(outcome_line(outcome, asked=asked))
        self.data(outcome.asdict() | {"asked": asked, "latency": outcome.latency})

    def _print(self, console: Console, what: Text | Table) -> None:
        try:
            console.print(what, soft_wrap=isinstance(what, Text))
        except BrokenPipeError:  # older versions of rich, without on_broken_pipe()
            raise PipeClosed from None


def _console(*, stderr: bool) -> Console:
    console = _Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _UNLIMITED
    return console


def cell(value: object, style: str = "") -> Text:
    """Return an untrusted value as text, with its control characters escaped."""
    return Text(printable(str(value)), style)


def table_of(heads: Iterable[str], rows: Iterable[Sequence[Text | str]]) -> Table:
    """Return a table with these column heads, whose first column is never wrapped."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, head in enumerate(heads):
        table.add_column(head, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def duration(milliseconds: float) -> str:
    """Return a duration in readable units."""
    if milliseconds < 1000:
        return f"{milliseconds:.3g} ms"
    seconds, names = milliseconds / 1000, ("d", "h", "m")
    if seconds < 60:
        return f"{int(seconds * 10) / 10:g} s"
    parts = dict(zip(names, (int(seconds // 86400), int(seconds // 3600 % 24), int(seconds // 60 % 60)), strict=True))
    parts["s"] = int(seconds % 60)
    return " ".join([f"{number} {name}" for name, number in parts.items() if number][:2])


def outcome_line(outcome: Outcome, *, asked: bool = True) -> Text:
    """Return a line that states what became of a message."""
    state = outcome.state.value
    line = Text.assemble(cell(outcome.message_id, "bold"), "  ", (f"{state:9}", STYLES[state]))
    if not outcome.is_known:
        why = "no reply yet: it is waiting or running, or had ended before" if asked else "no abort request"
        return line.append(f"  {why}")
    if outcome.actor is not None:
        line.append("  ").append(cell(outcome.actor))
    if outcome.worker is not None:
        line.append(" on ").append(cell(outcome.worker))
    if outcome.latency is not None:
        line.append(f", {duration(outcome.latency)} after it received the request")
    if outcome.exception is not None:
        line.append(", with ").append(cell(outcome.exception))
    return line.append(cell(_attribution(outcome)))


def _attribution(outcome: Outcome) -> str:
    by = "" if outcome.by is None else f", requested by {outcome.by}"
    return by if outcome.reason is None else f"{by}: {outcome.reason}"
