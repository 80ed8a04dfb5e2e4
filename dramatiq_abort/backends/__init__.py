"""The event backends of this package, each imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .redis import RedisBackend
    from .stub import StubBackend

__all__ = ["RedisBackend", "StubBackend"]

_MODULES = {"RedisBackend": "redis", "StubBackend": "stub"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f".{_MODULES[name]}", __name__)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{name} needs the module {error.name!r}: pip install 'dramatiq-abort[{_MODULES[name]}]'", name=error.name
        ) from error
    return getattr(module, name)
