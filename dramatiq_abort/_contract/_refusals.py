"""What a backend cannot do, it refuses, before anything is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .._client.abort import abort, abort_requested, restore
from .._client.bulk import abort_all, abort_rules
from .._client.inspection import running
from .._client.outcomes import wait_for_outcome
from .._middleware.abortable import Abortable
from .._protocol.event import Event
from .._protocol.request import AbortMode
from ..backends.base import keeps_signals
from ..errors import UnsupportedByBackend
from ._fixtures import Fixtures, carries_values, overrides
from ._patience import HOUR

if TYPE_CHECKING:
    from ..backends.base import EventBackend

__all__ = ["Refusals"]


class Refusals(Fixtures):
    """``UnsupportedByBackend``."""

    def test_what_it_says_is_not_left_out(self, backend: EventBackend) -> None:
        """Or a request to cancel would abort."""
        if carries_values(backend):
            pytest.skip("this backend carries values")
        with pytest.raises(UnsupportedByBackend):
            backend.signal([Event(b"a", ttl=HOUR), Event(b"b", b"value", HOUR)])
        for more in ({"mode": AbortMode.CANCEL}, {"abort_timeout": HOUR}, {"repeat_every": HOUR}, {"reason": "why"}):
            with pytest.raises(UnsupportedByBackend):
                abort("message", Abortable(backend=backend), **more)

        assert not backend.poll(b"a")
        assert not backend.poll(b"abort:message")

    def test_what_may_be_consumed_is_not_asked_for(self, backend: EventBackend) -> None:
        """Or the request to abort a message elsewhere would be lost."""
        if keeps_signals(backend):
            pytest.skip("this backend keeps its signals")
        abort("message", Abortable(backend=backend))
        with pytest.raises(UnsupportedByBackend):
            abort_requested("message", Abortable(backend=backend))

        assert backend.poll(b"abort:message")

    def test_what_it_cannot_take_back_stays(self, backend: EventBackend) -> None:
        """And nobody is told that it was."""
        if overrides(backend, "revoke"):
            pytest.skip("this backend takes signals back")
        abort("message", Abortable(backend=backend))
        with pytest.raises(UnsupportedByBackend):
            restore("message", Abortable(backend=backend))

        assert backend.poll(b"abort:message")

    def test_what_it_cannot_tell_all_nobody_asks(self, backend: EventBackend) -> None:
        """There are no rules."""
        if backend.supports_broadcast:
            pytest.skip("this backend tells all")
        with pytest.raises(UnsupportedByBackend):
            abort_all(Abortable(backend=backend), actor="task")

        assert abort_rules(Abortable(backend=backend)) == []

    def test_what_nobody_can_tell_is_not_waited_for(self, backend: EventBackend) -> None:
        """Without a board, workers cannot answer."""
        if backend.reply_store is not None:
            pytest.skip("this backend has a board")
        with pytest.raises(UnsupportedByBackend):
            wait_for_outcome("message", Abortable(backend=backend))
        with pytest.raises(UnsupportedByBackend):
            running(Abortable(backend=backend))
