"""Greenlets instead of threads: a part of the suite runs in a process that gevent has patched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import PATIENCE

pytest.importorskip("gevent")

pytestmark = [pytest.mark.slow, pytest.mark.unpatched]

HERE = Path(__file__).parent

#: The fast and most significant tests; `make test-gevent` runs all.
PARTS = [
    "guarantees/test_1_exact_window.py",
    "guarantees/test_2_completed_wins.py",
    "guarantees/test_5_no_abort_is_lost.py",
    "test_blocking_calls.py",
    "test_cooperation.py",
    "test_greenlets.py",
    "test_modes.py",
    "test_scope.py",
    "test_shield.py",
    "test_subprocess.py::test_an_abort_ends_the_program",
    "test_subprocess.py::test_an_abort_at_the_start_ends_the_program",
]


def test_it_holds_under_gevent() -> None:
    """(1, 2, 5, 9) Aborts, shields, waits, subprocesses and a storm work as with threads."""
    words = [sys.executable, str(HERE / "under_gevent.py"), "-q", "-p", "no:cacheprovider"]

    finished = subprocess.run(
        [*words, *(str(HERE / part) for part in PARTS)],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
        cwd=HERE.parent,
    )

    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert " passed" in finished.stdout
