"""The interface of all shields, which are synchronous and asynchronous context managers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator
    from types import TracebackType

__all__ = ["NOTHING", "AnyShield", "ShieldInPython"]


class _Nothing:
    """An awaitable that is done at once."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


#: The return value of an asynchronous method that has done everything by the time it returns.
NOTHING = _Nothing()


class AnyShield(Protocol):
    """A context manager inside which interrupts of a scope wait."""

    __slots__ = ()

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

    def __aenter__(self) -> Awaitable[None]:
        self.__enter__()
        return NOTHING

    def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> Awaitable[None]:
        self.__exit__(exc_type, exc, traceback)
        return NOTHING


class ShieldInPython(AnyShield):
    """What the shields of scopes written in Python share."""

    __slots__ = ("_entered", "_scope")

    def __init__(self, scope: Any) -> None:
        self._scope = scope
        self._entered = False

    def _check_new(self) -> None:
        """Raise ``RuntimeError`` if the shield has been entered before."""
        if self._entered:
            raise RuntimeError("this shield has been entered before: call shield() for each with statement")
