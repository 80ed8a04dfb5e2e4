"""Where dramatiq-abort 1.2 has its names."""

from ._abortable import Abortable
from .client import abort, abort_requested
from .errors import Abort
from .request import AbortMode

__all__ = ["Abort", "AbortMode", "Abortable", "abort", "abort_requested"]
