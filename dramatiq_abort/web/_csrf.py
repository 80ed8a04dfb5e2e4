"""Protection against forms that another site makes a browser send.

The browser keeps a random word in a cookie, which it does not send for other sites; each form has the word's signature.
Flask's own session would sign the cookie instead, and then two pages on one host, which share their cookies whatever
their ports, would replace each other's.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Final

from flask import after_this_request, request
from itsdangerous import Signer
from werkzeug.exceptions import Forbidden

if TYPE_CHECKING:
    from flask import Response

__all__ = ["FormTokens"]

_COOKIE: Final = "dramatiq_abort"


class FormTokens:
    """Issues the tokens of forms, and checks them.

    Parameters:
      secret: The key of the signatures; None: a random one.
    """

    def __init__(self, secret: bytes | None) -> None:
        self._signer = Signer(
            secret or secrets.token_bytes(32),
            salt="dramatiq_abort.web",
            key_derivation="hmac",
            digest_method=hashlib.sha256,
        )

    def issue(self) -> str:
        """Return a token for the forms of the page, and give the browser its cookie."""
        word = next(iter(_words()), None)
        if word is None:
            word = secrets.token_urlsafe(24)

            @after_this_request
            def set_cookie(response: Response) -> Response:
                # Without a path, it is for the path of the page, whatever a proxy makes of that.
                response.set_cookie(
                    _COOKIE, word, path=None, secure=request.is_secure, httponly=True, samesite="Strict"
                )
                return response

        return self._signer.get_signature(word).decode()

    def check(self) -> None:
        """Check that the form of this request is one of ours.

        Raises:
          Forbidden: When it is from another site, or its token is not valid any more.
        """
        site, origin = request.headers.get("Sec-Fetch-Site"), request.origin
        # Older browsers, and all of them without TLS, send only the origin. A proxy may have ended TLS.
        same_origin = not origin or origin in {f"http://{request.host}", f"https://{request.host}"}
        if not (site in {"same-origin", "none"} if site else same_origin):
            raise Forbidden("This form was sent from another site, so nothing has been done.")
        token = request.form.get("token", "")
        if not any(self._signer.verify_signature(word, token) for word in _words()):
            raise Forbidden(
                "This form is out of date, or the browser keeps no cookies, so nothing has been done. Load the page "
                "again, and then send the form."
            )


def _words() -> list[str]:
    """Return the words in the browser's cookies: several where pages are mounted within each other."""
    return [word for word in request.cookies.getlist(_COOKIE) if word]
