"""Abort dramatiq messages, waiting or running, from any process."""

import os

from ._abortable import Abortable
from ._cooperation import checkpoint, shield, sleep
from ._subprocess import run
from ._version import __version__
from .answers import running, wait_for_outcome, wait_for_outcome_async, wait_for_outcomes
from .backend import Event, EventBackend
from .board import Board, Note
from .client import abort, abort_all, abort_requested, restore, rules
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
from .outcome import Outcome, OutcomeState
from .request import AbortMode, AbortRequest
from .roll import Roll, RunningMessage, WorkerProcess
from .rule import Rule

# Only a worker needs a core. But whoever insists on one hears at once that it is not there.
if os.environ.get("DRAMATIQ_ABORT_EXTENSION", "auto") not in {"auto", "0"}:
    from . import interrupt as interrupt

__all__ = [
    "Abort",
    "AbortError",
    "AbortMode",
    "AbortRequest",
    "Abortable",
    "AbortedBeforeStart",
    "AsyncAbort",
    "BackendError",
    "Board",
    "ConfigurationError",
    "Event",
    "EventBackend",
    "InvalidOption",
    "InvalidRequest",
    "Note",
    "Outcome",
    "OutcomeState",
    "Roll",
    "Rule",
    "RunningMessage",
    "UnsupportedByBackend",
    "WorkerProcess",
    "__version__",
    "abort",
    "abort_all",
    "abort_requested",
    "checkpoint",
    "restore",
    "rules",
    "run",
    "running",
    "shield",
    "sleep",
    "wait_for_outcome",
    "wait_for_outcome_async",
    "wait_for_outcomes",
]
