"""The next jump backwards of a thread that is never found at a safe point: ``jumps.pxi`` for the pure-Python core.

This works from 3.12 on only: before that, only code written in C can be called back in another thread.
"""

from __future__ import annotations

import sys
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from types import CodeType

__all__ = ["SUPPORTED", "follow", "leave"]

#: Whether this interpreter can call back at a jump.
SUPPORTED: Final = hasattr(sys, "monitoring")

_monitoring: Any = getattr(sys, "monitoring", None)


class Follower(Protocol):
    """A scope that waits for the next jump backwards of a code."""

    def raise_in_loop(self) -> None:
        """Raise the scope's exception, if this is its thread and nothing prevents it."""


#: The followed codes by their ids, because equal codes need not be the same object.
_followed: dict[int, tuple[CodeType, dict[Follower, None]]] = {}

#: The destination of each thread that has just jumped, by the thread's id: a code's id and an offset.
_landing: dict[int, tuple[int, int]] = {}


def follow(code: CodeType, scope: Follower) -> None:
    """Call the scope after each jump backwards of a code, in any thread, until ``leave`` is called."""
    _followed.setdefault(id(code), (code, {}))[1][scope] = None
    _watch(code, _monitoring.events.JUMP)


def leave(code: CodeType, scope: Follower) -> None:
    """Stop calling the scope. If another scope calls ``follow`` at the same moment, its next call makes up for it."""
    _, scopes = _followed.get(id(code), (code, {}))
    scopes.pop(scope, None)
    if not scopes:
        _followed.pop(id(code), None)
        _watch(code, 0)


def _watch(code: CodeType, events: int) -> None:
    for tool in (4, 3):  # the other ids are reserved for debuggers, coverage, profilers and optimizers
        if _monitoring.get_tool(tool) is None:
            _monitoring.use_tool_id(tool, __name__)
            _monitoring.register_callback(tool, _monitoring.events.JUMP, _jumped)
            _monitoring.register_callback(tool, _monitoring.events.INSTRUCTION, _came_to)
        if _monitoring.get_tool(tool) == __name__:
            _monitoring.set_local_events(tool, code, events)
            return


def _jumped(code: CodeType, offset: int, destination: int) -> None:
    if destination <= offset:
        _landing[get_ident()] = id(code), destination
        _watch(code, _monitoring.events.JUMP | _monitoring.events.INSTRUCTION)


def _came_to(code: CodeType, offset: int) -> None:
    if _landing.pop(get_ident(), None) == (id(code), offset):
        _, scopes = _followed.get(id(code), (code, ()))
        _watch(code, _monitoring.events.JUMP if scopes else 0)
        for scope in tuple(scopes):
            scope.raise_in_loop()
