"""The settings that an ``Abortable`` passes to a worker process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable

    from dramatiq import Actor, Broker, Message
    from dramatiq.middleware import Middleware

    from .._protocol.outcome import Outcome

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """The parameters of an ``Abortable`` when its first worker boots, and the methods that a worker calls."""

    logger: logging.Logger
    protected_modules: tuple[str, ...]
    #: Whether the messages of an actor that is not declared here can be aborted.
    abortable: bool
    abort_ttl: int
    fail_skipped: bool
    repeat_every: int | None
    cleanup_timeout: int | None
    interrupt_blocking_calls: bool
    warn_after: int | None
    on_outcome: Callable[[Outcome], object] | None
    #: Returns whether a message can be aborted.
    is_abortable: Callable[[Actor[Any, Any], Message[Any]], bool]
    #: Whether to call it even if neither the message nor its actor has the option ``abortable``.
    must_be_asked: bool
    #: Warns that the running messages of an actor cannot be aborted.
    warn_of_hidden_call: Callable[[str], None]
    #: Returns the middleware that come after the ``Abortable`` on a broker.
    middleware_behind: Callable[[Broker], Iterable[Middleware]]
