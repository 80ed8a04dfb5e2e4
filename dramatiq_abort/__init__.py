"""Abort dramatiq messages, waiting or running, from any process."""

from ._cooperation import checkpoint, sleep
from ._subprocess import run
from ._version import __version__
from .backend import Event, EventBackend
from .errors import (
    Abort,
    AbortedBeforeStart,
    AbortError,
    AsyncAbort,
    BackendError,
    ConfigurationError,
    InvalidRequest,
    UnsupportedByBackend,
)
from .middleware import Abortable, abort, abort_requested, restore, shield
from .request import AbortMode, AbortRequest

__all__ = [
    "Abort",
    "AbortError",
    "AbortMode",
    "AbortRequest",
    "Abortable",
    "AbortedBeforeStart",
    "AsyncAbort",
    "BackendError",
    "ConfigurationError",
    "Event",
    "EventBackend",
    "InvalidRequest",
    "UnsupportedByBackend",
    "__version__",
    "abort",
    "abort_requested",
    "checkpoint",
    "restore",
    "run",
    "shield",
    "sleep",
]
