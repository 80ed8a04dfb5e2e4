"""Abort dramatiq messages, waiting or running, from any process."""

import os

from ._client.abort import abort, abort_requested, restore
from ._client.bulk import abort_all, abort_rules
from ._client.inspection import running
from ._client.outcomes import wait_for_outcome, wait_for_outcome_async, wait_for_outcomes
from ._middleware.abortable import Abortable
from ._protocol.event import Event
from ._protocol.outcome import Outcome, OutcomeState
from ._protocol.reply import Reply
from ._protocol.request import AbortMode, AbortRequest
from ._protocol.rule import AbortRule
from ._protocol.snapshot import RunningMessage, Snapshot, WorkerProcess
from ._task.cooperation import checkpoint, shield, sleep
from ._task.process import run_process
from ._version import __version__
from .backends.base import EventBackend
from .backends.replies import ReplyStore
from .errors import (
    Abort,
    AbortedBeforeStart,
    AbortError,
    AsyncAbort,
    BackendError,
    ConfigurationError,
    InvalidOption,
    InvalidRequest,
    UnsupportedByBackend,
)

# Only a worker imports a core. A program that requires one with this variable fails here, at once, if it is missing.
if os.environ.get("DRAMATIQ_ABORT_EXTENSION", "auto") not in {"auto", "0"}:
    from . import interrupt as interrupt

__all__ = [
    "Abort",
    "AbortError",
    "AbortMode",
    "AbortRequest",
    "AbortRule",
    "Abortable",
    "AbortedBeforeStart",
    "AsyncAbort",
    "BackendError",
    "ConfigurationError",
    "Event",
    "EventBackend",
    "InvalidOption",
    "InvalidRequest",
    "Outcome",
    "OutcomeState",
    "Reply",
    "ReplyStore",
    "RunningMessage",
    "Snapshot",
    "UnsupportedByBackend",
    "WorkerProcess",
    "__version__",
    "abort",
    "abort_all",
    "abort_requested",
    "abort_rules",
    "checkpoint",
    "restore",
    "run_process",
    "running",
    "shield",
    "sleep",
    "wait_for_outcome",
    "wait_for_outcome_async",
    "wait_for_outcomes",
]
