"""The functions that start event loops, which are wrapped while a worker runs: see ``loops.py``."""

from __future__ import annotations

import asyncio
import inspect
import sys
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

from .loops import wrap_run_forever, wrap_run_in_runner, wrap_run_until_complete
from .trio_loops import wrap_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["install", "remove"]

_Wrap: TypeAlias = "Callable[[Callable[..., Any]], Callable[..., Any]]"


def _entries() -> Iterator[tuple[Any, str, _Wrap]]:
    """Yield the functions that start loops: the class or module, the function's name, and its wrapper."""
    if "trio" in sys.modules:
        yield sys.modules["trio"], "run", wrap_run
    if sys.version_info >= (3, 11):
        yield asyncio.Runner, "run", wrap_run_in_runner
    loops: list[Any] = [asyncio.BaseEventLoop, asyncio.SelectorEventLoop]
    if "uvloop" in sys.modules:
        loops.append(sys.modules["uvloop"].Loop)
    for loop in loops:
        for name, wrap in (("run_until_complete", wrap_run_until_complete), ("run_forever", wrap_run_forever)):
            # An inherited method is wrapped in its base class, unless it is written in C. nest_asyncio gives classes
            # methods of their own.
            if not inspect.isfunction(getattr(loop, name)) or name in vars(loop):
                yield loop, name, wrap


_installing = Lock()
_workers = 0
_installed: list[tuple[Any, str, Any, Any]] = []


def install() -> None:
    """Wrap the functions that start loops, once for all workers of the process."""
    global _workers  # noqa: PLW0603
    with _installing:
        _workers += 1
        if _workers > 1:
            return
        for owner, name, wrap in _entries():
            before = vars(owner).get(name)
            wrapped = wrap(getattr(owner, name))
            setattr(owner, name, wrapped)
            _installed.append((owner, name, before, wrapped))


def remove() -> None:
    """Restore the functions when the last worker ends, except those that other code has wrapped since."""
    global _workers  # noqa: PLW0603
    with _installing:
        _workers -= 1
        if _workers:
            return
        for owner, name, before, wrapped in _installed:
            if vars(owner).get(name) is not wrapped:
                continue
            if before is None:  # it was inherited
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        _installed.clear()
