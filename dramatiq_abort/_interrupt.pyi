from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, Final, TypeVar, final

from dramatiq_abort._answer import Answer

__all__ = ["SUPPORTED", "Scope"]

_R = TypeVar("_R")

SUPPORTED: Final = True

@final
class Scope:
    def run(
        self,
        function: Callable[..., _R],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> _R: ...
    def interrupt(self, exception: type[BaseException]) -> Answer: ...
    def frame(self) -> FrameType | None: ...
    def rearm(self) -> bool: ...
    def withdraw(self) -> bool: ...
    def shield(self) -> AbstractContextManager[None]: ...
