"""The page by itself, on waitress."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from waitress import create_server, wasyncore

from ..errors import ConfigurationError
from ._application import MAX_FORM, TITLE, make_application
from ._hosts import Hosts, address_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from _typeshed.wsgi import WSGIApplication
    from typing_extensions import Self

    from .._middleware.abortable import Abortable

__all__ = ["Server", "make_server", "serve"]

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class Server:
    """A server for the page, which listens already. As a context manager, it closes at the end."""

    def __init__(self, listener: socket.socket, app: WSGIApplication) -> None:
        # Without any logging configuration, Python would write waitress's warnings of waiting requests to the terminal.
        logging.getLogger("waitress").addHandler(logging.NullHandler())
        self._stopping = threading.Event()
        self._sockets: dict[int, Any] = {}
        # A page waits up to a second for the workers, and occupies a thread for that time.
        self._server: Any = create_server(
            app,
            map=self._sockets,
            sockets=[listener],
            threads=16,
            channel_timeout=30,
            max_request_body_size=MAX_FORM,
            ident=None,
        )

    @property
    def url(self) -> str:
        """The address of the page."""
        host, port = self._server.effective_host, self._server.effective_port
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def serve_forever(self) -> None:
        """Answer requests until another thread calls ``shutdown()``."""
        try:
            # Not waitress's run(), which no other thread can end.
            while not self._stopping.is_set():
                wasyncore.loop(timeout=30, map=self._sockets, count=1)
        finally:
            self._server.task_dispatcher.shutdown()

    def shutdown(self) -> None:
        """Make ``serve_forever()`` return, from any thread."""
        self._stopping.set()
        self._server.pull_trigger()

    def close(self) -> None:
        """Close all connections, after ``serve_forever()`` has returned."""
        self._server.task_dispatcher.shutdown()
        wasyncore.close_all(self._sockets)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


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
    """Return a server for the page, which listens already; ``serve_forever()`` answers requests.

    Parameters, errors: As with ``serve()``.
    """
    # Resolved once, so that the address that is checked is the one that is listened on.
    family, _, _, _, address = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM)[0]  # noqa: S104
    found = address_of(str(address[0]).partition("%")[0])
    loopback = found is not None and found.is_loopback
    if not loopback and not allow_remote:
        raise ConfigurationError(
            f"{host or 'the empty host'} can be reached from other machines, and everyone who reaches the page can "
            "abort every message. Use 127.0.0.1, or allow_remote=True behind a login."
        )
    Hosts(hosts)  # a string is an error
    names = [*_LOOPBACK, *hosts, host, *([] if loopback else [socket.gethostname()])]
    app = make_application(
        middleware,
        arguments=arguments,
        title=title,
        refresh=refresh,
        hosts=Hosts(filter(None, names), any_address=not loopback),
        by=lambda _: by,
    )
    return Server(socket.create_server(address, family=family), app)


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
    """Serve the page until Ctrl-C is pressed.

    It listens on the loopback interface, and every user of the machine can open it: there are no passwords.

    Parameters:
      middleware: The ``Abortable`` of a broker; the default broker's, if None.
      host: The address or the name to listen on.
      port: The port; 0: any free one.
      arguments, title, refresh: As with ``application()``.
      allow_remote: Allows a host that other machines can reach.
      hosts: More host names that it answers to, such as those of a proxy.
      by: The name of the user, for ``abort(by=...)``.
      started: Called with the address of the page; by default, the address is written to stderr.

    Raises:
      TypeError, ValueError: As with ``application()``.
      ConfigurationError: A ``RuntimeError``: when other machines can reach the host, without ``allow_remote``.
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
        (started or _announce)(server.url)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def _announce(url: str) -> None:
    sys.stderr.write(f"The dashboard is at {url} (Ctrl-C stops it)\n")
    sys.stderr.flush()
