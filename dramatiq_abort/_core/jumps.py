"""The next jump backwards of a thread that is never found at a safe place: ``jumps.pxi`` for the pure-Python core.

From 3.12 on only: before that, nothing calls back in another thread but what is written in C.
"""

from __future__ import annotations

import sys
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from types import CodeType

__all__ = ["SUPPORTED", "follow", "leave"]

#: Whether this interpreter calls back at a jump.
SUPPORTED: Final = hasattr(sys, "monitoring")

_monitoring: Any = getattr(sys, "monitoring", None)


class Follower(Protocol):
    """A scope that is waiting for the next jump backwards of a code."""

    def raise_in_loop(self) -> None:
        """Raise the scope's exception, if this is its thread and nothing is in the way."""


#: The followed codes by their ids, since equal codes need not be the same one.
_followed: dict[int, tuple[CodeType, dict[Follower, None]]] = {}

#: Where each thread that has just jumped goes on: a code's id and an offset.
_landing: dict[int, tuple[int, int]] = {}


def follow(code: CodeType, scope: Follower) -> None:
    """Call the scope behind each jump backwards of a code, in any thread, until it leaves it."""
    _followed.setdefault(id(code), (code, {}))[1][scope] = None
    _watch(code, _monitoring.events.JUMP)


def leave(code: CodeType, scope: Follower) -> None:
    """Call the scope no longer. If another one begins at the same moment, its next ``follow`` puts that right."""
    _, scopes = _followed.get(id(code), (code, {}))
    scopes.pop(scope, None)
    if not scopes:
        _followed.pop(id(code), None)
        _watch(code, 0)


def _watch(code: CodeType, events: int) -> None:
    for tool in (4, 3):  # the others have names: debuggers, coverage, profilers, optimizers
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
