"""Which messages are skipped instead of started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..backends.base import keeps_signals

if TYPE_CHECKING:
    from ..backends.base import EventBackend
    from .backend_status import BackendStatus
    from .event_reader import EventReader
    from .execution import Execution
    from .execution_table import ExecutionTable

__all__ = ["Skipping"]


class Skipping:
    """Looks for the abort requests of messages that are about to start."""

    def __init__(
        self, backend: EventBackend, executions: ExecutionTable, reader: EventReader, status: BackendStatus
    ) -> None:
        self._backend = backend
        self._executions = executions
        self._reader = reader
        self._status = status

    def skips(self, execution: Execution) -> bool:
        """Return whether a message that is about to start has an abort request, and record the request in it.

        False if the backend does not answer.
        """
        key = execution.key
        if not keeps_signals(self._backend) and (others := self._executions.others(execution)):
            # The broker has redelivered a running message. Polling could consume the signal that the running one needs;
            # the watcher receives it for both.
            request = next((other.request for other in others if other.request is not None), None)
            if request is not None:
                execution.skip(request, None)
            return request is not None
        try:
            events = self._backend.events_for(key)
        except Exception as error:
            self._status.report_down(error)
            return False
        for event in events:
            if event.key == key:
                request = self._reader.request(key, event.value)
                if request is not None:
                    execution.skip(request, None)
                    return True
            elif (rule := self._reader.rule(event)) is not None and execution.matches(rule):
                execution.skip(rule.request, event.key)
                return True
        return False
