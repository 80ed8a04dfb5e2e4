from collections.abc import Callable
from types import FrameType
from typing import Any, Final, TypeVar, final

from dramatiq_abort._answer import Answer
from dramatiq_abort._shield import AnyShield

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
    def is_here(self) -> bool: ...
    def frames(self) -> list[FrameType]: ...
    def rearm(self) -> bool: ...
    def withdraw(self) -> bool: ...
    def shield(self) -> AnyShield: ...
