"""The pages of errors. The log has what the pages do not show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq.logging import get_logger
from flask import Response
from werkzeug.exceptions import HTTPException

from ..errors import AbortError, BackendError

if TYPE_CHECKING:
    from flask import Flask

    from ._pages import Pages

__all__ = ["add_error_pages"]


def add_error_pages(app: Flask, pages: Pages) -> None:
    """Add a handler for each kind of error."""
    logger = get_logger(__name__)

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        response = Response(pages.error(error.name, error.description or ""), error.code)
        response.headers.extend((name, value) for name, value in error.get_headers() if name == "Allow")
        return response

    @app.errorhandler(BackendError)
    def unavailable(error: BackendError) -> tuple[str, int]:
        logger.warning("The event backend does not answer.", exc_info=error)
        return pages.error(
            "The event backend does not answer",
            "If you have just sent a form, send it again later: sending it twice does no harm.",
            "Check that the Redis server is running, and that the process that serves this page can reach it; its log "
            "has the error. The workers go on. Earlier requests take effect when the server is back.",
            reload=True,
        ), 503

    @app.errorhandler(AbortError)
    def misconfigured(error: AbortError) -> tuple[str, int]:
        logger.warning("The page cannot be shown.", exc_info=error)
        return pages.error("This page is not configured correctly", str(error)), 500

    @app.errorhandler(Exception)
    def failed(error: Exception) -> tuple[str, int]:
        logger.error("The page could not be rendered.", exc_info=error)
        return pages.error("Internal error", "The log of the process that serves this page has the error."), 500
