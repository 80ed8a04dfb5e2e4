"""The command that serves the web page."""

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
@click.option("--host", default="127.0.0.1", show_default=True, help="The host to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="The port; 0: a free one.")
@click.option("--arguments", is_flag=True, help="Also show the arguments of the messages.")
@click.option("--allow-remote", is_flag=True, help="Allow a host that other machines can reach.")
@click.option("--by", default=me, show_default="user@host", help="The requester of aborts made on the page.")
@where
def web(session: Session, host: str, port: int, by: str, *, arguments: bool, allow_remote: bool) -> None:
    """Serve a web page that shows and aborts running messages, until Ctrl-C is pressed.

    The page has no passwords: anyone who reaches it can abort any message. By default, only this machine can reach it.
    """
    from ..web import serve

    def started(url: str) -> None:
        session.output.say(f"Serving at {url}. Press Ctrl-C to stop.")
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
        raise click.ClickException(f"cannot listen on {host}, port {port}: {error.strerror}") from error
