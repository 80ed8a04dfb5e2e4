"""The command that serves the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._command import Command
from ._request import me
from ._session import where

if TYPE_CHECKING:
    from ._session import Session

__all__ = ["web"]


@click.command("web", cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="The same; 0: any.")
@click.option("--arguments", is_flag=True, help="Show the messages' arguments, too.")
@click.option("--allow-remote", is_flag=True, help="Listen to other machines, too, if the host is such.")
@click.option("--by", default=me, show_default="user@host", help="Who asks, for what is aborted on the page.")
@where
def web(session: Session, host: str, port: int, by: str, *, arguments: bool, allow_remote: bool) -> None:
    """Serve a page that shows what runs, and aborts it, until Ctrl-C is pressed.

    It has no passwords: whoever reaches it can abort every message. So it listens to this machine alone.
    """
    from ..web import serve

    def started(url: str) -> None:
        session.output.say(f"The page is at {url} until Ctrl-C is pressed.")
        session.output.data({"url": url})

    try:
        serve(
            session.middleware,
            host=host,
            port=port,
            arguments=arguments,
            allow_remote=allow_remote,
            by=by,
            started=started,
        )
    except OSError as error:
        raise click.ClickException(f"the page cannot be at {host}, port {port}: {error.strerror}") from error
