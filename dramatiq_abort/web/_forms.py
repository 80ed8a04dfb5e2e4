"""What a browser sends: the fields of a form, and the proof that the form was ours."""

from __future__ import annotations

import hmac
import re
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["Refusal", "Seal", "fields_of"]

#: A longer body is not read, in bytes. The longest that the page's own forms can send is half of it.
_MAX_BODY: Final = 16_384

#: No form of ours has more.
_MOST_FIELDS: Final = 20

_COOKIE: Final = "dramatiq_abort"


class Refusal(Exception):
    """What was asked for is not done.

    Parameters:
      status: Of the answer.
      text: For whoever has asked.
      allow: The methods that would have done.
    """

    def __init__(self, status: HTTPStatus, text: str, *, allow: str | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.allow = allow


class Seal:
    """Tells the forms of this page from those that another site has made a browser send.

    The browser keeps a random word in a cookie, which it does not send on behalf of other sites; each form has the
    word's signature. Besides, browsers say where a request is from.

    Parameters:
      secret: The key of the signatures: the same for all processes that serve one page.
    """

    def __init__(self, secret: bytes | None) -> None:
        self._key = secrets.token_bytes(32) if secret is None else secret

    def word(self, environ: WSGIEnvironment) -> str | None:
        """Return the word that the browser has, if it has one."""
        return next(_words(environ), None)

    def new(self, environ: WSGIEnvironment) -> tuple[str, str]:
        """Return a new word, and the cookie that gives it to the browser.

        Without a path, the cookie goes to where the page is and to nothing above it, whatever a proxy makes of the
        page's address.
        """
        word = secrets.token_urlsafe(24)
        secure = "; Secure" if environ.get("wsgi.url_scheme") == "https" else ""
        return word, f"{_COOKIE}={word}; HttpOnly; SameSite=Strict{secure}"

    def token(self, word: str) -> str:
        """Return a word's signature, for a form."""
        return hmac.new(self._key, word.encode(), "sha256").hexdigest()

    def check(self, environ: WSGIEnvironment, token: str) -> None:
        """Make sure that a form is ours.

        Raises:
          Refusal: When it is not, or not any more.
        """
        site, origin = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("HTTP_ORIGIN")
        # Older browsers, and all of them where there is no TLS, say no more than the origin.
        ours = site in {"same-origin", "none"} if site else not origin or _host(origin) == environ.get("HTTP_HOST")
        if not ours:
            raise Refusal(HTTPStatus.FORBIDDEN, "This was sent from another site, so nothing has been done.")
        given = token.encode(errors="replace")
        # A browser may have several cookies of this name, of pages that are mounted within each other.
        if not any(hmac.compare_digest(self.token(word).encode(), given) for word in _words(environ)):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "The form was out of date, or this browser keeps no cookies, so nothing has been done. Load the page "
                "again, and try again.",
            )


def fields_of(environ: WSGIEnvironment) -> dict[str, str]:
    """Read the fields of a form that was sent.

    Raises:
      Refusal: When there is none, or it is not one of ours.
    """
    kind = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Only the page's own forms are understood.")
    length = environ.get("CONTENT_LENGTH") or ""
    if not re.fullmatch(r"[0-9]{1,18}", length):
        raise Refusal(HTTPStatus.LENGTH_REQUIRED, "Nobody has said how long the form is.")
    if int(length) > _MAX_BODY:
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A form has {_MAX_BODY} bytes at the most.")
    try:
        body = environ["wsgi.input"].read(int(length)).decode("ascii")
        fields = parse_qs(body, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, "That is no form.") from error
    except OSError as error:
        raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "The form did not arrive.") from error
    return {name: values[-1] for name, values in fields.items()}


def _words(environ: WSGIEnvironment) -> Iterator[str]:
    # Not http.cookies, which gives up at the first cookie of somebody else that it does not understand.
    for cookie in environ.get("HTTP_COOKIE", "").split(";"):
        name, _, word = cookie.strip().partition("=")
        if name == _COOKIE and re.fullmatch(r"[\w-]{32}", word, re.ASCII):
            yield word


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
