"""The hooks of every message: compiled where the compiled core is in use, otherwise in pure Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..interrupt import IMPLEMENTATION

__all__ = ["BaseExecution", "MessageHooks", "ScopedCall"]

if TYPE_CHECKING or IMPLEMENTATION != "cython":
    from .hooks_py import BaseExecution, MessageHooks, ScopedCall
else:
    from .._interrupt import BaseExecution, MessageHooks, ScopedCall
