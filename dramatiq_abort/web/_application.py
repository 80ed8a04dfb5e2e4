"""The WSGI application: its settings, and what every response has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from flask import Flask, redirect, request
from werkzeug.exceptions import MisdirectedRequest

from ._csrf import FormTokens
from ._display import add_display
from ._errors import add_error_pages
from ._hosts import Hosts
from ._pages import Pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment
    from werkzeug.wrappers import Response

    from .._middleware.abortable import Abortable

    By = Callable[[WSGIEnvironment], str | None]

__all__ = ["MAX_FORM", "TITLE", "application", "make_application"]

TITLE: Final = "dramatiq-abort"

#: A longer form is refused, in bytes. The longest that the page itself can send has half of it.
MAX_FORM: Final = 16_384

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With no-referrer, browsers would not send the origin of the page's own forms, either.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def application(
    middleware: Abortable | None = None,
    *,
    arguments: bool = False,
    title: str = TITLE,
    refresh: int = 5,
    hosts: Iterable[str] | None = None,
    by: By | None = None,
    secret: bytes | None = None,
) -> WSGIApplication:
    """Return a WSGI application that shows the running messages and aborts them.

    ::

        from werkzeug.middleware.dispatcher import DispatcherMiddleware

        app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/aborts": application()})

    It has no users and no passwords: put your own login in front of it.

    Parameters:
      middleware: The ``Abortable`` of a broker; the default broker's, if None.
      arguments: Whether to show the messages' arguments, which may contain addresses or tokens.
      title: The title of the page.
      refresh: The interval between updates in seconds; 0: none. Each update asks all workers.
      hosts: The host names that it answers to, without ports; None: all.
      by: Returns the name of the user, given the WSGI environment, for ``abort(by=...)``; by default, ``REMOTE_USER``.
      secret: The key that signs the forms, at least 16 random bytes. By default, each process makes its own, and a
        form does not outlive it. Processes that serve the same page need the same key.

    Raises:
      TypeError: When a parameter has the wrong type.
      ValueError: When the secret is too short, or the interval is negative.
    """
    return make_application(
        middleware,
        arguments=arguments,
        title=title,
        refresh=refresh,
        hosts=None if hosts is None else Hosts(hosts),
        by=by or _remote_user,
        secret=secret,
    )


def make_application(
    middleware: Abortable | None,
    *,
    arguments: bool,
    title: str,
    refresh: int,
    hosts: Hosts | None,
    by: By,
    secret: bytes | None = None,
) -> Flask:
    """See ``application()``."""
    if type(refresh) is not int:
        raise TypeError(f"refresh must be an int (seconds), not {refresh!r:.80}")
    if refresh < 0:
        raise ValueError(f"refresh is 0 or more seconds, not {refresh}")
    if secret is not None and not isinstance(secret, bytes):
        raise TypeError(f"secret is bytes, not {type(secret).__name__}")
    if secret is not None and len(secret) < 16:
        raise ValueError(f"a secret has 16 bytes or more, not {len(secret)}")
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_FORM
    policy = add_display(app)
    pages = Pages(middleware, arguments=arguments, title=title, refresh=refresh, by=by, tokens=FormTokens(secret))
    add_error_pages(app, pages)
    app.add_url_rule("/", view_func=pages.index)
    app.add_url_rule("/abort", view_func=pages.abort, methods=["POST"])
    app.add_url_rule("/restore", view_func=pages.restore, methods=["POST"])

    @app.before_request
    def check_address() -> Response | None:
        if hosts is not None and request.host not in hosts:
            raise MisdirectedRequest("This page has another host name.")
        if not request.environ.get("PATH_INFO"):
            # Relative, since a proxy may have moved the page to another path.
            last = request.root_path.rstrip("/").rpartition("/")[2]
            return redirect(f"./{quote(last, safe='')}/" if last else "./", 303)
        return None

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(_HEADERS)
        response.headers["Content-Security-Policy"] = policy
        return response

    return app


def _remote_user(environ: WSGIEnvironment) -> str | None:
    user = environ.get("REMOTE_USER")
    # WSGI has a character for each byte.
    return user.encode("latin-1", "replace").decode(errors="replace") if isinstance(user, str) and user else None
