"""What is done to an actor so that its messages can be aborted."""

from __future__ import annotations

import functools
import inspect
import threading
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from dramatiq import Actor
from dramatiq.errors import ActorNotFound

from ._current import current, here, in_this_thread
from .errors import Abort

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from dramatiq import Message

    from ._running import Running

__all__ = ["UntilNeeded", "call_is_hidden", "expect_abort", "in_scope", "put"]


def in_scope(fn: Callable[..., Any], actor: Actor[Any, Any], logger: logging.Logger) -> Callable[..., Any]:
    """Wrap an actor's function: a call for a message runs in that message's scope, any other is a plain call."""
    from . import _passage  # not where no message runs

    return _passage.InScope(fn, actor.actor_name, current, _Calls(actor, logger))


class UntilNeeded:
    """Stands for an actor's function in its scope until a message needs that.

    So that a process that declares actors, but only enqueues or aborts their messages, imports no core.
    """

    def __init__(self, function: Callable[..., Any], make: Callable[[], Callable[..., Any]]) -> None:
        self._function = function
        #: Returns what this stands for.
        self.made = functools.cache(make)
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return (self._function if here() is None else self.made())(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)  # as that of InScope

    def __repr__(self) -> str:
        return repr(self._function)


def put(actor: Actor[Any, Any], new: Callable[..., Any], old: Callable[..., Any]) -> None:
    """Give an actor another function, also where its class keeps the old one for a ``__call__`` of its own."""
    for name, value in list(vars(actor).items()):
        if value is old:
            setattr(actor, name, new)


def call_is_hidden(actor: Actor[Any, Any]) -> bool:
    """Say whether an actor's class has a ``__call__`` of its own, and nothing in it calls what ``put`` has put."""
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


class _Calls:
    """Tells a message's own calls of an actor's function from all others, and takes what comes out of them."""

    def __init__(self, actor: Actor[Any, Any], logger: logging.Logger) -> None:
        self._actor = actor
        self._logger = logger

    def message_of(self, function: Callable[..., Any], running: Running | None) -> Running | None:
        """Return the message whose call this is; None: it is a plain call.

        One that is called again, as after a lost connection, has begun already.
        """
        if running is None or running.is_over:  # in a context of its own, or one that another message has left behind
            running = in_this_thread()
            if running is None or running.is_inside:
                return None
        elif running.has_begun and running.thread_id != threading.get_ident():  # a thread that its function has started
            return None
        name = running.proxy.actor_name  # which another middleware may have changed
        if name != self._actor.actor_name and not self._is_known_as(name, function):
            return None
        if running.has_begun:
            running.begin_again()
        return running

    def _is_known_as(self, name: str, function: Callable[..., Any]) -> bool:
        """Say whether messages for an actor of that name call the function: an old name, say, that is kept alive."""
        try:
            actor = self._actor.broker.get_actor(name)
        except ActorNotFound:
            return False
        return actor is self._actor or inspect.unwrap(actor.fn, stop=lambda each: each is function) is function

    def failed(self, running: Running, error: BaseException) -> None:
        """Take what came out of a message's function instead of a result.

        Raises:
          Abort: In its place, whatever the function made of its abort: a message that was to be aborted is not tried
            again.
        """
        request = running.request
        if request is not None or isinstance(error, Abort):
            expect_abort(running.message)
        if isinstance(error, Abort):
            # That of a message around this one comes up in here, too.
            asked: Running | None = running
            while asked is not None and asked.request is None:
                asked = asked.outer
            aborted = asked or running
            error.write_down(aborted.message_id, aborted.request)
        elif request is not None:
            what = "Message %s was being aborted and raised this."
            self._logger.warning(what, running.message_id, exc_info=error, extra=running.fields())
            was_aborted = f"message {running.message_id} was aborted{request.says}"
            terminal = Abort(f"{was_aborted}, and then raised {type(error).__name__}")
            terminal.failure = type(error).__name__
            terminal.write_down(running.message_id, request)
            try:
                raise terminal from error
            finally:
                del terminal  # no cycle of the exception, its traceback and this frame, which holds what the task had


class _ExpectingAbort(dict[str, Any]):
    """The options of a message that fails with an Abort."""

    # Only get() answers differently, which is what dramatiq calls. The class is not an item of the dictionary, so the
    # message can still be copied, and encoded as JSON.

    def get(self, key: str, default: Any = None) -> Any:
        return Abort if key == "throws" else super().get(key, default)

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return dict, (dict(self),)


def expect_abort(message: Message[Any]) -> None:
    """Add Abort to what a message ``throws``, now that it fails with one.

    So Retries and the worker take it for an expected end (dramatiq/middleware/retries.py, dramatiq/worker.py). Not an
    option of the actor: other middleware may set that one at any time, and a message's own goes before it.
    """
    # The message is frozen, which dramatiq itself gets around in the same way (dramatiq/message.py).
    object.__setattr__(message, "options", _ExpectingAbort(message.options))
