"""The contract of event backends, for each of ours with its plain connection."""

from __future__ import annotations

import pytest
from ways import PROGRAMS, kinds

from dramatiq_abort.contract import BackendContract


@pytest.mark.parametrize("make_backend", ["stub", *kinds([*PROGRAMS], ["plain"])], indirect=True)
class TestOurs(BackendContract):
    """A StubBackend, and the first server of each available kind."""
