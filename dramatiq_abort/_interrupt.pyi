from collections.abc import Callable
from contextvars import ContextVar
from inspect import Signature
from types import CodeType, FrameType
from typing import Any, Final, TypeVar, final

from dramatiq import Broker, Message
from dramatiq.broker import MessageProxy
from typing_extensions import disjoint_base

from dramatiq_abort._core.result import InterruptResult
from dramatiq_abort._core.shield import AnyShield
from dramatiq_abort._protocol.request import AbortRequest
from dramatiq_abort._worker.hooks_py import AnyScope, Calls, Execution, SlowPath, ThreadScope
from dramatiq_abort.backends.base import EventBackend

__all__ = ["SUPPORTED", "BaseExecution", "MessageHooks", "Scope", "ScopedCall"]

_R = TypeVar("_R")

SUPPORTED: Final = True

def _delivers(code: CodeType, offset: int) -> bool: ...
def _rules_of(frame: FrameType, called: CodeType | None = None) -> tuple[bool, bool]: ...

@final
class Scope:
    def run(
        self,
        function: Callable[..., _R],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> _R: ...
    def interrupt(self, exception: type[BaseException]) -> InterruptResult: ...
    @property
    def is_shielded(self) -> bool: ...
    def is_here(self) -> bool: ...
    def frames(self) -> list[FrameType]: ...
    def rearm(self) -> bool: ...
    def revoke(self) -> bool: ...
    def claim(self, frame: FrameType | None = None) -> bool: ...
    def may_be_cut(self, frame: FrameType) -> bool: ...
    def shield(self) -> AnyShield: ...

@disjoint_base
class BaseExecution:
    declined: AbortRequest | None
    ended: float | None
    has_begun: bool
    is_inside: bool
    outer: Execution | None
    runtime: SlowPath
    proxy: MessageProxy
    request: AbortRequest | None
    scope: AnyScope
    thread_id: int
    def __init__(self, message: Message[Any], scope: AnyScope) -> None: ...
    @property
    def actor_name(self) -> str: ...
    @property
    def message(self) -> Message[Any]: ...
    @property
    def started(self) -> float: ...

@final
class MessageHooks:
    backend: EventBackend | None
    def __init__(
        self,
        rest: SlowPath,
        current: ContextVar[Execution | None],
        kind: type[Execution],
        new_scope: Callable[[], ThreadScope],
        *,
        special: set[str],
        all_need_slow_path: bool,
    ) -> None: ...
    @property
    def redelivered(self) -> dict[Execution, None]: ...
    @property
    def by_id(self) -> dict[str, Execution]: ...
    def before_process_message(self, broker: Broker, message: MessageProxy) -> None: ...
    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None: ...
    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None: ...
    def completed(self, message_id: str) -> tuple[str, str, str, Any, float, float] | None: ...
    def completed_ids(self) -> list[str]: ...

@final
class ScopedCall:
    def __init__(
        self,
        function: Callable[..., Any],
        actor_name: str,
        current: ContextVar[Execution | None],
        calls: Calls,
    ) -> None: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    @property
    def __signature__(self) -> Signature: ...
