"""The page by itself, on the server of the standard library."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from dramatiq.logging import get_logger

from ..errors import ConfigurationError
from ._application import TITLE, Application
from ._hosts import Hosts, is_loopback, named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._middleware.abortable import Abortable

__all__ = ["Server", "make_server", "serve"]

#: What this machine calls itself.
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")

_LOGGER: Final = get_logger(__name__)


class Server(ThreadingMixIn, WSGIServer):
    """Serves the page, a thread to each request. ``url`` is where; ``serve_forever()`` starts it."""

    daemon_threads = True
    address_family: int
    server_name: str
    server_port: int

    def __init__(self, family: socket.AddressFamily, address: tuple[Any, ...], app: Application) -> None:
        self.address_family = family
        super().__init__(address, _Handler)
        self.set_app(app)

    @property
    def url(self) -> str:
        """Where the page is."""
        host, port = self.socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the name servers what this machine is called, and they may take their time.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A browser has gone away, or has said nothing: nobody needs a traceback on the terminal for that.
        _LOGGER.debug("A request from %s has failed.", client_address, exc_info=True)  # noqa: LOG014


class _Handler(WSGIRequestHandler):
    #: For how many seconds a browser may say nothing.
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        _LOGGER.debug("%r", format % args)


def make_server(
    middleware: Abortable | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    arguments: bool = False,
    title: str = TITLE,
    refresh: int = 5,
    allow_remote: bool = False,
    hosts: Iterable[str] = (),
    by: str | None = None,
) -> Server:
    """Return a server for the page, which listens already; ``serve_forever()`` lets it answer. See ``serve``.

    Parameters, errors: As there.
    """
    family, _, _, _, address = _address_of(host, port)
    local = is_loopback(str(address[0]))
    if not local and not allow_remote:
        raise ConfigurationError(
            f"{host or 'the empty host'} can be reached from other machines, and everybody who reaches the page can "
            "abort every message. Use 127.0.0.1; or allow_remote=True, behind something that asks who it is."
        )
    names = {*_LOCAL, *named(hosts), host} - {""}
    if not local:
        names.add(socket.gethostname())
    app = Application(
        middleware,
        arguments=arguments,
        title=title,
        refresh=refresh,
        hosts=Hosts(names, addresses=not local),
        by=lambda _: by,
    )
    return Server(family, address, app)


def serve(
    middleware: Abortable | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    arguments: bool = False,
    title: str = TITLE,
    refresh: int = 5,
    allow_remote: bool = False,
    hosts: Iterable[str] = (),
    by: str | None = None,
    started: Callable[[str], object] | None = None,
) -> None:
    """Serve the page until somebody presses Ctrl-C.

    It listens to this machine alone, whose users can all open it: there are no passwords.

    Parameters:
      middleware: The ``Abortable`` of a broker; without it, the default broker's.
      host: Where to listen: an address of this machine, or a name of it.
      port: The same; 0: any that is free.
      arguments, title, refresh: As ``application()`` has them.
      allow_remote: Whether other machines may be listened to, if ``host`` is such.
      hosts: More names under which the page may be asked for: those that a proxy in front of it has, say.
      by: Who asks, for ``abort(by=...)``.
      started: Called with the address of the page; without it, the address is written to stderr.

    Raises:
      TypeError, ValueError: As ``application()`` has them.
      ConfigurationError: A ``RuntimeError``: when others could reach it and ``allow_remote`` does not say so.
      OSError: When the host is unknown, or the port is in use.
    """
    with make_server(
        middleware,
        host=host,
        port=port,
        arguments=arguments,
        title=title,
        refresh=refresh,
        allow_remote=allow_remote,
        hosts=hosts,
        by=by,
    ) as server:
        (started or _say)(server.url)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def _address_of(host: str, port: int) -> Any:
    """Resolve it once, so that what is looked at is what is listened to."""
    found = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)  # noqa: S104
    return found[0]


def _say(url: str) -> None:
    sys.stderr.write(f"The running messages are at {url} (Ctrl-C ends it)\n")
    sys.stderr.flush()
