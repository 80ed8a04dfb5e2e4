"""``Abort``, which dramatiq-abort 1.2 has in this module."""

from .errors import Abort

__all__ = ["Abort"]
