"""A backend refuses what it does not support, before anything is done."""

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

    def test_values_are_not_dropped(self, backend: EventBackend) -> None:
        """Otherwise, a request to cancel would abort."""
        if carries_values(backend):
            pytest.skip("this backend carries values")
        with pytest.raises(UnsupportedByBackend):
            backend.signal([Event(b"a", ttl=HOUR), Event(b"b", b"value", HOUR)])
        for more in ({"mode": AbortMode.CANCEL}, {"abort_timeout": HOUR}, {"repeat_every": HOUR}, {"reason": "why"}):
            with pytest.raises(UnsupportedByBackend):
                abort("message", Abortable(backend=backend), **more)

        assert not backend.poll(b"a")
        assert not backend.poll(b"abort:message")

    def test_a_signal_that_could_be_consumed_is_not_queried(self, backend: EventBackend) -> None:
        """Otherwise, the request for a message in another process would be lost."""
        if keeps_signals(backend):
            pytest.skip("this backend keeps its signals")
        abort("message", Abortable(backend=backend))
        with pytest.raises(UnsupportedByBackend):
            abort_requested("message", Abortable(backend=backend))

        assert backend.poll(b"abort:message")

    def test_a_request_that_cannot_be_revoked_stays(self, backend: EventBackend) -> None:
        """And ``restore()`` raises an error."""
        if overrides(backend, "revoke"):
            pytest.skip("this backend revokes signals")
        abort("message", Abortable(backend=backend))
        with pytest.raises(UnsupportedByBackend):
            restore("message", Abortable(backend=backend))

        assert backend.poll(b"abort:message")

    def test_rules_need_broadcasts(self, backend: EventBackend) -> None:
        """Otherwise, there are none."""
        if backend.supports_broadcast:
            pytest.skip("this backend has broadcasts")
        with pytest.raises(UnsupportedByBackend):
            abort_all(Abortable(backend=backend), actor="task")

        assert abort_rules(Abortable(backend=backend)) == []

    def test_outcomes_and_snapshots_need_a_reply_store(self, backend: EventBackend) -> None:
        """Without one, workers cannot reply."""
        if backend.reply_store is not None:
            pytest.skip("this backend has a reply store")
        with pytest.raises(UnsupportedByBackend):
            wait_for_outcome("message", Abortable(backend=backend))
        with pytest.raises(UnsupportedByBackend):
            running(Abortable(backend=backend))
