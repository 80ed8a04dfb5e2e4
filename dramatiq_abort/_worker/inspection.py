"""What a worker process says when it is asked what it is running."""

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

#: For how long an answer can be read, in ms.
_ANSWER: Final = 30_000

#: How long the text of one argument may be, in characters.
_MAX_ARGUMENT: Final = 200

_representation: Final = reprlib.Repr()
_representation.maxstring = _representation.maxother = _representation.maxlong = _MAX_ARGUMENT
_representation.maxlist = _representation.maxdict = _representation.maxtuple = _representation.maxset = 20


class Inspection:
    """Answers for one worker process. ``entry`` is what it is on the roll with."""

    def __init__(self, executions: ExecutionTable) -> None:
        self._executions = executions
        self.worker = worker_name()
        about = {
            "worker": self.worker,
            "id": uuid.uuid4().hex[:12],  # another process may have had the number before
            "version": __version__,
            "core": interrupt.IMPLEMENTATION,
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "dramatiq": dramatiq.__version__,
        }
        self.entry = json.dumps(about, separators=(",", ":")).encode()

    def answer(self, name: str, *, arguments: bool) -> Reply:
        """Say what is running here, to whoever has asked under this name."""
        fields: dict[str, Any] = {"now": int(time.time() * 1000), "messages": [], "omitted": 0}
        execution = self._executions.all()
        size = 0
        for each in execution:
            said = _said(each, arguments=arguments)
            size += len(json.dumps(said)) + 1
            if size > MAX_REPLY // 2:
                fields["omitted"] = len(execution) - len(fields["messages"])
                break
            fields["messages"].append(said)
        return Reply(answer_name(name, self.entry), json.dumps(fields, separators=(",", ":")).encode(), _ANSWER)


def worker_name() -> str:
    """Return the name of this worker process: the host's and the process id."""
    return f"{socket.gethostname()[:200]}:{os.getpid()}"


def _said(execution: Execution, *, arguments: bool) -> dict[str, Any]:
    message, request, left = execution.message, execution.request, execution.grace_left()
    said: dict[str, Any] = {
        "message_id": message.message_id,
        "actor": message.actor_name,
        "queue": q_name(message.queue_name),
        "enqueued": execution.enqueued,
        "started": since_1970(execution.started)[0],
    }
    if request is not None:
        said |= {"grace_left": int(left or 0), "reason": request.reason, "by": request.by}
    if arguments:
        said["arguments"] = [_shown(value) for value in message.args]
        said["arguments"] += [f"{name}={_shown(value)}" for name, value in message.kwargs.items()]
    return said


def _shown(value: object) -> str:
    """Write a value down, however large it is, and whatever its own way to do that may raise."""
    return _representation.repr(value)[:_MAX_ARGUMENT]
