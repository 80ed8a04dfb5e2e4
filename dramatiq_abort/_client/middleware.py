"""Find the middleware that a client's call goes through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq import get_broker

from .._middleware.abortable import Abortable
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from .._middleware.binding import BrokerBinding

__all__ = ["resolve_middleware"]


def resolve_middleware(middleware: Abortable | None) -> Abortable | BrokerBinding:
    """Return the middleware, or the part of the default broker's that goes with that broker.

    Raises:
      TypeError: When it is none.
      ConfigurationError: When the default broker has none.
    """
    if middleware is None:
        broker = get_broker()
        for candidate in broker.middleware:
            if isinstance(candidate, Abortable):
                return candidate.bind(broker)
        raise ConfigurationError(
            "the default broker has no Abortable middleware: add one with broker.add_middleware(Abortable()), "
            "or pass the one of another broker as middleware"
        )
    if not isinstance(middleware, Abortable):
        raise TypeError(f"middleware is the broker's Abortable, not {middleware!r}")
    return middleware
