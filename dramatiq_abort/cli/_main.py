"""The command group, and the exit status."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Final

import click

from .._protocol.request import printable
from .._version import __version__
from ..errors import AbortError, BackendError
from ._completion import completion
from ._doctor import doctor
from ._look import ps, rules, status
from ._output import PipeClosed
from ._request import abort, abort_all, cancel, restore
from ._session import Session
from ._web import web

__all__ = ["run"]

#: Exit statuses other than 0, for success, and 1, for an incomplete result.
USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141


class _Group(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)  # in the order of their definition


@click.group(
    cls=_Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="COMMAND",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def dramatiq_abort(context: click.Context) -> None:
    """Abort dramatiq messages, waiting or running, and list running ones.

    Every command needs --url or --broker, as an option or in the environment. A TIME is in milliseconds, or has a unit:
    500, 500ms, 5s, 2m, 1h, 1d.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (abort, abort_all, cancel, restore, rules, status, ps, doctor, web, completion):
    dramatiq_abort.add_command(command)


def run() -> int:
    """Run the command line, and return the exit status."""
    session = Session()
    try:
        status = dramatiq_abort(prog_name="dramatiq-abort", standalone_mode=False, obj=session)
        sys.stdout.flush()
    except click.Abort:
        return INTERRUPTED
    except (PipeClosed, BrokenPipeError):
        # Buffered output would be written at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except (click.ClickException, AbortError, ModuleNotFoundError, TypeError, ValueError) as error:
        if session.verbose:
            traceback.print_exc()
        print(f"error: {printable(_message_for(error))}", file=sys.stderr)  # noqa: T201
        return UNREACHABLE if isinstance(error, BackendError) else USAGE
    return int(status or 0)


def _message_for(error: Exception) -> str:
    """Return the text of an error, with advice on what to do."""
    if isinstance(error, click.UsageError):
        path = "dramatiq-abort" if error.ctx is None else error.ctx.command_path
        return f"{error.format_message()} ({path} --help)"
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, BackendError):
        return f"{str(error).rstrip('.')}. Check the address of the server, that it runs, and the user's rights."
    if isinstance(error, ModuleNotFoundError) and error.name == "redis":
        return "redis-py is not installed: pip install 'dramatiq-abort[redis]'"
    return str(error)
