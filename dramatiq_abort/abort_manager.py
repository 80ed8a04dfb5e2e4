"""Where dramatiq-abort 1.2 has ``Abort``."""

from .errors import Abort

__all__ = ["Abort"]
