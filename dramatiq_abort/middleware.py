"""The names that dramatiq-abort 1.2 has in this module."""

from ._client.abort import abort, abort_requested
from ._middleware.abortable import Abortable
from ._protocol.request import AbortMode
from .errors import Abort

__all__ = ["Abort", "AbortMode", "Abortable", "abort", "abort_requested"]
