"""Greenlets instead of threads: gevent patches a whole process, so each test is one of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("gevent")


@pytest.mark.parametrize("events", ["stub", "redis"])
def test_it_holds_under_gevent(events: str, request: pytest.FixtureRequest) -> None:
    """(1, 2, 4, 9) Aborts, shields, skipped messages and a storm, as with threads."""
    words = [request.getfixturevalue("redis_url")] if events == "redis" else []
    script = Path(__file__).parent / "isolated" / "under_gevent.py"

    finished = subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, timeout=50, check=False
    )

    assert finished.stdout.splitlines() == [
        "aborted True",
        "sleep Abort",
        "completed",
        "protect Abort",
        "skipped None",
        "storm True",
        "workers True",
        "threads []",
    ], finished.stderr
    assert finished.returncode == 0
