"""The pages, and the two forms."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from dramatiq.logging import get_logger
from flask import redirect, render_template, request
from werkzeug.exceptions import BadRequest

from .._client.abort import abort, restore
from .._client.bulk import abort_rules
from .._client.inspection import running
from .._client.outcomes import wait_for_outcomes
from .._protocol.request import MAX_TEXT
from ._view import NOTICES, View

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.wrappers import Response

    from .._middleware.abortable import Abortable
    from ._csrf import FormTokens

__all__ = ["Pages"]

#: More messages are not shown: such a page would take the browser long, and help no reader.
_MAX_ROWS: Final = 500

#: How long the page waits for the outcome of an abort that was just requested, in ms: most arrive by then.
_OUTCOME_WAIT: Final = 300

#: How long the page waits for the workers' replies, in ms.
_REPLY_WAIT: Final = 1000


class Pages:
    """The functions behind the routes. For the parameters, see ``application()``."""

    def __init__(
        self,
        middleware: Abortable | None,
        *,
        arguments: bool,
        title: str,
        refresh: int,
        by: Callable[[WSGIEnvironment], str | None],
        tokens: FormTokens,
    ) -> None:
        self._middleware = middleware
        self._arguments = arguments
        self._title = title
        self._refresh = refresh
        self._by = by
        self._tokens = tokens
        self._logger = get_logger(__name__, type(self))

    def index(self) -> str:
        view = View.of(request.args)
        wait = _OUTCOME_WAIT if view.said == "asked" else 0
        outcomes = {each.message_id: each for each in wait_for_outcomes(view.asked, self._middleware, timeout=wait)}
        found = running(self._middleware, arguments=self._arguments, timeout=_REPLY_WAIT)
        omitted = sum(worker.omitted for worker in found.workers) + max(0, len(found.messages) - _MAX_ROWS)
        return render_template(
            "page.html",
            title=self._title,
            notice=NOTICES.get(view.said or "", ""),
            query=replace(view, said=None).query(),
            toggle_query=replace(view, said=None, paused=not view.paused).query(),
            clear_query=replace(view, said=None, asked=()).query(),
            paused=view.paused,
            refresh=self._refresh,
            token=self._tokens.issue(),
            now=datetime.now(timezone.utc),
            max_reason=MAX_TEXT,
            outcomes=[outcomes[each] for each in view.asked],
            messages=found.messages[:_MAX_ROWS],
            message_count=len(found.messages),
            omitted=omitted,
            rules=abort_rules(self._middleware),
            workers=found.workers,
            unresponsive=len(found.unresponsive),
        )

    def abort(self) -> Response:
        return self._change(self._abort)

    def restore(self) -> Response:
        return self._change(self._restore)

    def error(self, heading: str, *paragraphs: str, reload: bool = False) -> str:
        """Return the page of an error, which may try again by itself."""
        up = "../" * (request.environ.get("PATH_INFO", "").count("/") - 1) or "./"
        return render_template(
            "error.html",
            title=self._title,
            heading=heading,
            paragraphs=paragraphs,
            refresh=self._refresh if reload else 0,
            back=f"{up}{replace(View.of(request.args), said=None).query()}",
        )

    def _change(self, change: Callable[[str, View], View]) -> Response:
        self._tokens.check()
        quoted = request.form.get("quoted")
        try:
            # A typed id may have spaces around it; one from the page is exact.
            name = request.form.get("id", "").strip() if quoted is None else unquote(quoted, errors="strict")
            view = change(name, View.of(request.args))
        except ValueError as error:
            raise BadRequest(f"Nothing has been done: {error}.") from error
        return redirect(f"./{view.query()}", 303)

    def _abort(self, message_id: str, view: View) -> View:
        by, reason = self._by(request.environ), request.form.get("reason", "").strip()
        abort(message_id, self._middleware, reason=reason or None, by=by[:MAX_TEXT] if by else None)
        self._logger.info("Abort of message %r requested by %r: %r", message_id, by, reason)
        return view.follow(message_id)

    def _restore(self, name: str, view: View) -> View:
        found = restore(name, self._middleware)
        self._logger.info("Restoring %r requested by %r: %s", name, self._by(request.environ), found)
        asked = tuple(each for each in view.asked if each != name) if found else view.asked
        return replace(view, asked=asked, said="restored" if found else "late")
