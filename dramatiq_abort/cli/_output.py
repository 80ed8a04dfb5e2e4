"""What is said to a terminal, a pipe or a script."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .._protocol.request import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._protocol.outcome import Outcome

__all__ = ["STYLES", "Output", "PipeClosed", "cell", "duration", "outcome_line", "table_of"]

#: What a state looks like.
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

#: A line is not broken where no terminal is, so that a program can read it, in characters.
_ENDLESS: Final = 100_000


class PipeClosed(Exception):
    """Nobody reads any more."""


class _Console(Console):
    def on_broken_pipe(self) -> None:  # else it exits by itself
        raise PipeClosed


class Output:
    """Where a command says what it has to say.

    Parameters:
      as_json: Whether a program reads it.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        # Whatever an encoding does not have is written out, and is no error.
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        self.console: Final = _console(stderr=False)
        self.errors: Final = _console(stderr=True)

    def say(self, *parts: str | Text | tuple[str, str]) -> None:
        """Say a line; not to a program."""
        if not self.as_json:
            self._print(self.console, Text.assemble(*parts))

    def note(self, *parts: str | Text | tuple[str, str]) -> None:
        """Say a line that is not what was asked for; to whoever reads the errors."""
        self._print(self.errors, Text.assemble(*parts))

    def table(self, table: Table) -> None:
        if not self.as_json:
            self._print(self.console, table)

    def data(self, data: object) -> None:
        """Say something to a program: one line of JSON."""
        if self.as_json:
            try:
                print(json.dumps(data), flush=True)  # noqa: T201
            except BrokenPipeError:
                raise PipeClosed from None

    def outcome(self, outcome: Outcome, *, asked: bool = True) -> None:
        """Say what became of a message.

        Parameters:
          outcome: What is known.
          asked: Whether anybody has asked to abort it.
        """
        self.say(outcome_line(outcome, asked=asked))
        self.data(outcome.asdict() | {"asked": asked, "latency": outcome.latency})

    def _print(self, console: Console, what: Text | Table) -> None:
        try:
            console.print(what, soft_wrap=isinstance(what, Text))
        except BrokenPipeError:  # before rich had a method for it
            raise PipeClosed from None


def _console(*, stderr: bool) -> Console:
    console = _Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _ENDLESS
    return console


def cell(said: object, style: str = "") -> Text:
    """Return what comes from elsewhere, with its control characters written out."""
    return Text(printable(str(said)), style)


def table_of(heads: Iterable[str], rows: Iterable[Sequence[Text | str]]) -> Table:
    """Make a table of such columns, the first of which is never broken over lines."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, head in enumerate(heads):
        table.add_column(head, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def duration(milliseconds: float) -> str:
    """Return how long something is, as people say it."""
    if milliseconds < 1000:
        return f"{milliseconds:.3g} ms"
    seconds, names = milliseconds / 1000, ("d", "h", "m")
    if seconds < 60:
        return f"{int(seconds * 10) / 10:g} s"
    parts = dict(zip(names, (int(seconds // 86400), int(seconds // 3600 % 24), int(seconds // 60 % 60)), strict=True))
    parts["s"] = int(seconds % 60)
    return " ".join([f"{number} {name}" for name, number in parts.items() if number][:2])


def outcome_line(outcome: Outcome, *, asked: bool = True) -> Text:
    """Return what became of a message, in a line."""
    state = outcome.state.value
    line = Text.assemble(cell(outcome.message_id, "bold"), "  ", (f"{state:9}", STYLES[state]))
    if not outcome.is_known:
        told = "no worker has told yet: it waits, runs, or was over before" if asked else "nobody asks to abort it"
        return line.append(f"  {told}")
    if outcome.actor is not None:
        line.append("  ").append(cell(outcome.actor))
    if outcome.worker is not None:
        line.append(" on ").append(cell(outcome.worker))
    if outcome.latency is not None:
        line.append(f", {duration(outcome.latency)} after it heard")
    if outcome.exception is not None:
        line.append(", with ").append(cell(outcome.exception))
    return line.append(cell(_says(outcome)))


def _says(outcome: Outcome) -> Any:
    by = "" if outcome.by is None else f", asked by {outcome.by}"
    return by if outcome.reason is None else f"{by}: {outcome.reason}"
