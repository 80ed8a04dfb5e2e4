"""The contract of event backends, for every kind of connection to a Redis that uses other commands."""

from __future__ import annotations

import pytest
from ways import PROGRAMS, kinds

from dramatiq_abort.contract import BackendContract

pytestmark = [pytest.mark.main_interpreter, pytest.mark.newest_dependencies, pytest.mark.redis_versions]

WAYS = ["resp2", "resp3", "decode", "limited", "cluster", "sentinel"]


@pytest.mark.parametrize("make_backend", kinds([*PROGRAMS][:1], WAYS), indirect=True)
class TestWays(BackendContract):
    """Other protocols, users and clients."""
