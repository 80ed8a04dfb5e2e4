"""The conversion of an event backend's exceptions into ``BackendError``."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import AbortError, BackendError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["backend_errors"]


@contextmanager
def backend_errors(consequence: str) -> Iterator[None]:
    """Convert exceptions of an event backend into a ``BackendError`` whose message begins with the consequence."""
    try:
        yield
    except AbortError:
        raise
    except Exception as error:
        raise BackendError(f"{consequence}: {type(error).__name__}: {error}") from error
