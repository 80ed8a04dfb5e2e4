"""Resolve the ``middleware`` parameter of the functions for callers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq import get_broker

from .._middleware.abortable import Abortable
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from .._middleware.binding import BrokerBinding

__all__ = ["resolve_middleware"]


def resolve_middleware(middleware: Abortable | None) -> Abortable | BrokerBinding:
    """Return ``middleware``, or that of the default broker, bound to it, if ``middleware`` is None.

    Raises:
      TypeError: If it is not an ``Abortable``.
      ConfigurationError: If the default broker has none.
    """
    if middleware is None:
        broker = get_broker()
        for candidate in broker.middleware:
            if isinstance(candidate, Abortable):
                return candidate.bind(broker)
        raise ConfigurationError(
            "the default broker has no Abortable middleware: add one with broker.add_middleware(Abortable()), "
            "or pass that of another broker as middleware"
        )
    if not isinstance(middleware, Abortable):
        raise TypeError(f"middleware must be the broker's Abortable, not {middleware!r}")
    return middleware
