"""What every event backend holds, for all of ours, each in the plain way."""

from __future__ import annotations

import pytest
from ways import PROGRAMS, kinds

from dramatiq_abort.contract import BackendContract


@pytest.mark.parametrize("make_backend", ["stub", *kinds([*PROGRAMS], ["plain"])], indirect=True)
class TestOurs(BackendContract):
    """A stub, and the first of each kind of server that is here."""
