"""What every event backend holds, for all of ours."""

from __future__ import annotations

import pytest
from ways import PROGRAMS, kinds

from dramatiq_abort.contract import BackendContract

first, others = [*PROGRAMS][:1], [*PROGRAMS][1:]
# Every way to the first server program in which other words go to and fro, and the plain way to the others.
ways = ["plain", "resp2", "resp3", "decode", "limited", "cluster", "sentinel"]


@pytest.mark.parametrize("make_backend", ["stub", *kinds(first, ways), *kinds(others, ["plain"])], indirect=True)
class TestOurs(BackendContract):
    """A stub, and every way to every Redis that is here."""
