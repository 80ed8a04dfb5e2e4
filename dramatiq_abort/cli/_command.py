"""The base class and the options shared by the commands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

from ._session import keep

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Command", "time_option", "time_to_wait", "wait_options"]

_UNITS: Final = {"": 1, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

#: How long ``--wait`` waits by default, in milliseconds.
_DEFAULT_WAIT: Final = 10_000


class Command(click.Command):
    """A command with the connection options, which uses an event backend."""

    def invoke(self, context: click.Context) -> Any:
        keep(context)
        return super().invoke(context)


def _time(text: str | int) -> int:
    """Return a time, in milliseconds or with a unit, as milliseconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)", str(text), re.ASCII)
    if found is None:
        raise click.BadParameter(f"{text!r} is not a time such as 500, 500ms, 5s, 2m, 1h or 1d")
    return round(float(found[1]) * _UNITS[found[2]])


def time_option(name: str, text: str, *, default: str | None = None) -> Callable[[Any], Any]:
    """Return a decorator that adds an option whose value is a time."""
    return click.option(name, type=_time, metavar="TIME", default=default, show_default=default is not None, help=text)


def wait_options(text: str) -> Callable[[Any], Any]:
    """Return a decorator that adds the options for waiting: see ``time_to_wait``."""

    def decorate(command: Any) -> Any:
        command = time_option("--wait-timeout", "How long --wait waits.  [default: 10s]")(command)
        return click.option("--wait", is_flag=True, help=text)(command)

    return decorate


def time_to_wait(*, wait: bool, wait_timeout: int | None) -> int | None:
    """Return how many milliseconds to wait, or None for not waiting.

    Raises:
      UsageError: If ``--wait-timeout`` is given without ``--wait``.
    """
    if not wait:
        if wait_timeout is not None:
            raise click.UsageError("--wait-timeout needs --wait")
        return None
    return _DEFAULT_WAIT if wait_timeout is None else wait_timeout
