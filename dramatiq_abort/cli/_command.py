"""What the commands have in common."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

from ._session import keep

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Command", "time_option", "wait_option"]

_UNITS: Final = {"": 1, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

#: For how long ``--wait`` waits that says no time.
_WAIT: Final = "--wait=10s"


class Command(click.Command):
    """A command that asks a backend."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        # A time belongs to --wait only where it is written in one word with it: what is behind it is a message's id.
        end = args.index("--") if "--" in args else len(args)
        args = [_WAIT if word == "--wait" and place < end else word for place, word in enumerate(args)]
        return super().parse_args(context, args)

    def invoke(self, context: click.Context) -> Any:
        keep(context)
        return super().invoke(context)


def _time(said: str | int) -> int:
    """Return a time, in milliseconds or with a unit, as milliseconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)", str(said), re.ASCII)
    if found is None:
        raise click.BadParameter(f"{said!r} is no time: 500, 500ms, 5s, 2m, 1h and 1d are")
    return round(float(found[1]) * _UNITS[found[2]])


def time_option(name: str, says: str, *, default: str | None = None) -> Callable[[Any], Any]:
    """Make an option that is a time."""
    return click.option(name, type=_time, metavar="TIME", default=default, show_default=default is not None, help=says)


def wait_option(what: str) -> Callable[[Any], Any]:
    """Make the option that waits, for 10 seconds unless it says for how long."""
    return click.option("--wait", type=_time, metavar="[=TIME]", help=f"{what}, for 10 seconds or that long.")
