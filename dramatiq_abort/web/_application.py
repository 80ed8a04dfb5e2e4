"""The application: who may ask for what, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

from dramatiq.logging import get_logger

from .._client.abort import abort, restore
from .._client.bulk import abort_rules
from .._client.inspection import running
from .._client.outcomes import wait_for_outcomes
from .._protocol.request import MAX_TEXT
from ..errors import AbortError, BackendError
from ._forms import Refusal, Seal, fields_of
from ._hosts import Hosts
from ._looks import POLICY
from ._pages import Shown, View, error_page, page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .._middleware.abortable import Abortable

    By = Callable[[WSGIEnvironment], str | None]

__all__ = ["TITLE", "Application", "application"]

TITLE: Final = "dramatiq-abort"

#: How long the page waits for the outcome of an abort that was asked for just now, in ms: most are there by then.
_FIRST_LOOK: Final = 300

#: How long it waits for the last worker's answer, in ms.
_ROLL_CALL: Final = 1000

_HEADERS: Final = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    # Not no-referrer, with which browsers do not say either that a form is from here.
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
    ("Content-Type", "text/html; charset=utf-8"),
)


@dataclass(frozen=True)
class _Reply:
    status: HTTPStatus
    text: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)


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
    """Return a WSGI application that shows what the workers are running, and aborts it.

    ::

        from werkzeug.middleware.dispatcher import DispatcherMiddleware

        app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/aborts": application()})

    It lets in everybody who can reach it: what is in front of it must see to that nobody does who should not.

    Parameters:
      middleware: The ``Abortable`` of a broker; without it, the default broker's.
      arguments: Whether to show the messages' arguments, too. They may be anything: addresses, tokens.
      title: What the page is called.
      refresh: After how many seconds it is renewed; 0: never. Each time, all workers are asked.
      hosts: The names under which it may be asked for, without the port; None: any, as where the server sees to it.
      by: Says who asks, of the WSGI environment, for ``abort(by=...)``; without it, that is ``REMOTE_USER``.
      secret: Signs the forms. Without one, each process makes its own, and forms do not outlive it: where several
        processes serve one page, give them the same, 16 random bytes or more.

    Raises:
      TypeError: When a parameter is of another type than these.
      ValueError: When the secret is too short, or the time negative.
    """
    return Application(
        middleware,
        arguments=arguments,
        title=title,
        refresh=refresh,
        hosts=None if hosts is None else Hosts(hosts),
        by=by,
        secret=secret,
    )


class Application:
    """See ``application``. ``hosts`` says which names it has."""

    def __init__(
        self,
        middleware: Abortable | None,
        *,
        arguments: bool,
        title: str,
        refresh: int,
        hosts: Hosts | None,
        by: By | None,
        secret: bytes | None = None,
    ) -> None:
        if type(refresh) is not int:
            raise TypeError(f"refresh is an integer, in seconds, not {refresh!r:.80}")
        if refresh < 0:
            raise ValueError(f"refresh is 0 or more seconds, not {refresh}")
        if secret is not None and not isinstance(secret, bytes):
            raise TypeError(f"secret is bytes, not {type(secret).__name__}")
        if secret is not None and len(secret) < 16:
            raise ValueError(f"a secret has 16 bytes or more, not {len(secret)}")
        self._middleware = middleware
        self._arguments = arguments
        self._title = title
        self._refresh = refresh
        self._hosts = hosts
        self._by = by or _remote_user
        self._seal = Seal(secret)
        self._logger = get_logger(__name__, type(self))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            reply = self._reply(environ)
        except Refusal as refusal:
            reply = self._error(environ, refusal.status, refusal.status.phrase, refusal.text)
            if refusal.allow:
                reply.headers.append(("Allow", refusal.allow))
        except BackendError:
            self._logger.warning("The event backend does not answer.", exc_info=True)
            reply = self._error(
                environ,
                HTTPStatus.SERVICE_UNAVAILABLE,
                "The event backend does not answer",
                "If you have just sent something, send it again when it does: twice does no harm.",
                "See whether the Redis server runs, and can be reached from the process that serves this page: its log "
                "has the error. Workers go on meanwhile; what was asked before takes effect when it is back.",
                refresh=self._refresh,
            )
        except AbortError as error:
            self._logger.warning("The page cannot be shown.", exc_info=True)
            what = "This page cannot work as it is set up"
            reply = self._error(environ, HTTPStatus.INTERNAL_SERVER_ERROR, what, str(error))
        except Exception:
            self._logger.exception("The page could not be made.")
            what, advice = "Something is wrong", "The log of the process that serves this page has the error."
            reply = self._error(environ, HTTPStatus.INTERNAL_SERVER_ERROR, what, advice)
        body = reply.text.encode()
        headers = [*_HEADERS, *reply.headers, ("Content-Length", str(len(body)))]
        start_response(f"{reply.status.value} {reply.status.phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _reply(self, environ: WSGIEnvironment) -> _Reply:
        if self._hosts is not None and not self._hosts.know(environ.get("HTTP_HOST", "")):
            raise Refusal(HTTPStatus.MISDIRECTED_REQUEST, "This page is not to be had under that name.")
        path = environ.get("PATH_INFO", "")
        if path == "":
            return _redirect(_slashed(environ))
        if path == "/":
            _allow(environ, "GET", "HEAD")
            return self._show(environ)
        if path in {"/abort", "/restore"}:
            _allow(environ, "POST")
            fields = fields_of(environ)
            self._seal.check(environ, fields.get("token", ""))
            view = View.of(environ.get("QUERY_STRING", ""))
            try:
                # What somebody has typed may have a space too many; what the page has written is exact.
                quoted = fields.get("quoted")
                name = fields.get("id", "").strip() if quoted is None else unquote(quoted, errors="strict")
                view = (self._abort if path == "/abort" else self._restore)(environ, view, name, fields)
            except ValueError as error:
                raise Refusal(HTTPStatus.BAD_REQUEST, f"Nothing has been done: {error}.") from error
            return _redirect(f"./{view.query()}")
        raise Refusal(HTTPStatus.NOT_FOUND, "There is nothing here.")

    def _show(self, environ: WSGIEnvironment) -> _Reply:
        view = View.of(environ.get("QUERY_STRING", ""))
        word, headers = self._seal.word(environ), []
        if word is None:
            word, cookie = self._seal.new(environ)
            headers.append(("Set-Cookie", cookie))
        patience = _FIRST_LOOK if view.said == "asked" else 0
        told = {each.message_id: each for each in wait_for_outcomes(view.asked, self._middleware, timeout=patience)}
        shown = Shown(
            self._title,
            view,
            self._seal.token(word),
            self._refresh,
            running(self._middleware, arguments=self._arguments, timeout=_ROLL_CALL),
            abort_rules(self._middleware),
            [told[each] for each in view.asked],
        )
        return _Reply(HTTPStatus.OK, page(shown), headers)

    def _abort(self, environ: WSGIEnvironment, view: View, message_id: str, fields: dict[str, str]) -> View:
        by = self._by(environ)
        reason = fields.get("reason", "").strip()
        abort(message_id, self._middleware, reason=reason or None, by=by[:MAX_TEXT] if by else None)
        self._logger.info("Message %r is to be aborted, by %r: %r", message_id, by, reason)
        return view.follow(message_id)

    def _restore(self, environ: WSGIEnvironment, view: View, name: str, fields: dict[str, str]) -> View:
        found = restore(name, self._middleware)
        self._logger.info("The abort of %r was taken back, by %r: %s", name, self._by(environ), found)
        left = tuple(each for each in view.asked if each != name) if found else view.asked
        return replace(view, asked=left, said="restored" if found else "late")

    def _error(self, environ: WSGIEnvironment, status: HTTPStatus, what: str, *advice: str, refresh: int = 0) -> _Reply:
        up = "../" * (environ.get("PATH_INFO", "").count("/") - 1) or "./"
        view = replace(View.of(environ.get("QUERY_STRING", "")), said=None)
        return _Reply(status, error_page(self._title, what, *advice, back=f"{up}{view.query()}", refresh=refresh))


def _allow(environ: WSGIEnvironment, *methods: str) -> None:
    if environ["REQUEST_METHOD"] not in methods:
        allow = ", ".join(methods)
        raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"Here, only {allow} will do.", allow=allow)


def _redirect(address: str) -> _Reply:
    """Lead elsewhere, by a relative address: what is in front of a page may have moved it to another path."""
    return _Reply(HTTPStatus.SEE_OTHER, headers=[("Location", address)])


def _slashed(environ: WSGIEnvironment) -> str:
    """Where the page is, seen from its address without the slash at the end."""
    last = environ.get("SCRIPT_NAME", "").rpartition("/")[2].encode("latin-1")
    return f"./{quote(last, safe='')}/" if last else "./"


def _remote_user(environ: WSGIEnvironment) -> str | None:
    user = environ.get("REMOTE_USER")
    # WSGI's way with bytes: each is a character.
    return user.encode("latin-1", "replace").decode(errors="replace") if isinstance(user, str) and user else None
