"""What an event backend raises, as one error that says what it means."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import AbortError, BackendError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["backend_errors"]


@contextmanager
def backend_errors(what_if_not: str) -> Iterator[None]:
    """Let what an event backend raises come out as a ``BackendError`` that says what this means."""
    try:
        yield
    except AbortError:
        raise
    except Exception as error:
        raise BackendError(f"{what_if_not}: {type(error).__name__}: {error}") from error
