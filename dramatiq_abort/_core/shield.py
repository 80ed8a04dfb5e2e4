"""The interface of all shields, which are synchronous and asynchronous context managers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator
    from types import TracebackType

__all__ = ["NOTHING", "AnyShield"]


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
