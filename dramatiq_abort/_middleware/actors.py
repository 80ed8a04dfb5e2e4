"""Replacing an actor's function so that its messages can be aborted."""

from __future__ import annotations

import functools
import inspect
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from dramatiq import Actor

from .._core.current import here

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LazyScopedCall", "call_is_hidden", "replace_function"]


class LazyScopedCall:
    """A lazy stub for the scoped call of an actor's function, which is made when a message first needs it.

    A process that declares actors but only enqueues or aborts their messages therefore never imports a core.

    Parameters:
      function: The actor's function.
      make: Makes the scoped call.
    """

    def __init__(self, function: Callable[..., Any], make: Callable[[], Callable[..., Any]]) -> None:
        self._function = function
        #: Returns the scoped call, made on the first use.
        self.made = functools.cache(make)
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return (self._function if here() is None else self.made())(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)  # as ScopedCall does

    def __repr__(self) -> str:
        return repr(self._function)


def replace_function(actor: Actor[Any, Any], new: Callable[..., Any], old: Callable[..., Any]) -> None:
    """Replace an actor's function, in every attribute: a subclass may keep it in another one for its ``__call__``."""
    for name, value in list(vars(actor).items()):
        if value is old:
            setattr(actor, name, new)


def call_is_hidden(actor: Actor[Any, Any]) -> bool:
    """Return whether an actor's class overrides ``__call__`` without using what ``replace_function`` replaces."""
    if type(actor).__call__ is Actor.__call__:
        return False
    kept = {name for name, value in vars(actor).items() if value is actor.fn} | {"fn", "__call__"}
    kinds = takewhile(lambda kind: kind is not Actor, type(actor).__mro__)
    methods = [each for kind in kinds for each in vars(kind).values() if callable(each)]
    names = (_names_in(each) for each in methods if getattr(each, "__name__", "") != "__init__")
    return not any(kept & found for found in names)


def _names_in(function: Callable[..., Any]) -> set[str]:
    code = getattr(inspect.unwrap(function), "__code__", None)
    inner = () if code is None else (constant for constant in code.co_consts if hasattr(constant, "co_names"))
    return set() if code is None else set(code.co_names).union(*(constant.co_names for constant in inner))
