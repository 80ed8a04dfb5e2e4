"""A worker process's replies to ``running()``."""

from __future__ import annotations

import json
import os
import platform
import reprlib
import socket
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

import dramatiq
from dramatiq.common import q_name

from .. import interrupt
from .._protocol.reply import MAX_REPLY, Reply
from .._protocol.snapshot import answer_name
from .._version import __version__
from .execution import since_1970

if TYPE_CHECKING:
    from .execution import Execution
    from .execution_table import ExecutionTable

__all__ = ["Inspection", "worker_name"]

#: How long a reply stays readable, in ms.
_REPLY_TTL: Final = 30_000

#: The maximum length of an argument's text, in characters.
_MAX_ARGUMENT: Final = 200

_representation: Final = reprlib.Repr()
_representation.maxstring = _representation.maxother = _representation.maxlong = _MAX_ARGUMENT
_representation.maxlist = _representation.maxdict = _representation.maxtuple = _representation.maxset = 20


class Inspection:
    """Creates the replies of one worker process, whose registration is ``entry``."""

    def __init__(self, executions: ExecutionTable) -> None:
        self._executions = executions
        self.worker = worker_name()
        about = {
            "worker": self.worker,
            "id": uuid.uuid4().hex[:12],  # the process id may be reused
            "version": __version__,
            "core": interrupt.IMPLEMENTATION,
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "dramatiq": dramatiq.__version__,
        }
        self.entry = json.dumps(about, separators=(",", ":")).encode()

    def answer(self, name: str, *, arguments: bool) -> Reply:
        """Return the reply to the request of this name: the messages that are running here."""
        fields: dict[str, Any] = {"now": int(time.time() * 1000), "messages": [], "omitted": 0}
        executions = self._executions.all()
        size = 0
        for execution in executions:
            message = _fields_of(execution, arguments=arguments)
            size += len(json.dumps(message)) + 1
            if size > MAX_REPLY // 2:
                fields["omitted"] = len(executions) - len(fields["messages"])
                break
            fields["messages"].append(message)
        return Reply(answer_name(name, self.entry), json.dumps(fields, separators=(",", ":")).encode(), _REPLY_TTL)


def worker_name() -> str:
    """Return the name of this worker process: its host name and process id."""
    return f"{socket.gethostname()[:200]}:{os.getpid()}"


def _fields_of(execution: Execution, *, arguments: bool) -> dict[str, Any]:
    message, request, left = execution.message, execution.request, execution.grace_left()
    fields: dict[str, Any] = {
        "message_id": message.message_id,
        "actor": message.actor_name,
        "queue": q_name(message.queue_name),
        "enqueued": execution.enqueued,
        "started": since_1970(execution.started)[0],
    }
    if request is not None:
        fields |= {"grace_left": int(left or 0), "reason": request.reason, "by": request.by}
    if arguments:
        fields["arguments"] = [_text_of(value) for value in message.args]
        fields["arguments"] += [f"{name}={_text_of(value)}" for name, value in message.kwargs.items()]
    return fields


def _text_of(value: object) -> str:
    """Return the shortened text of a value, also if its ``__repr__`` raises an exception."""
    return _representation.repr(value)[:_MAX_ARGUMENT]
