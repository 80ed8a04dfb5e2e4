"""The contract for event backends detects broken ones: the tests of docs/backends.md, run like a reader's."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from pages import DOCS, ROOT, marked

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.main_interpreter, pytest.mark.unpatched]

PAGE = DOCS / "backends.md"
EXAMPLE = (ROOT / "examples" / "sqlite_backend.py").read_text(encoding="utf-8")

#: Replaces the first line of the loop over events in ``signal``: a revoked key is never signaled again.
IGNORES_WHAT_WAS_TAKEN_BACK = """\
if database.execute("SELECT 1 FROM events WHERE key = ? AND value IS NULL", [event.key]).fetchone():
                    continue
                value, expiry = event.value"""
KNOWS_NO_AGE = """\
def age(self, key: bytes) -> float | None:
        return None

    def poll("""


def run_contract(directory: Path, backend: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the tests on the page against a backend."""
    (directory / "sqlite_backend.py").write_text(backend, encoding="utf-8")
    (directory / "test_sqlite_backend.py").write_text(marked(PAGE, "test"), encoding="utf-8")
    pytest_ = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *words]
    return subprocess.run(pytest_, cwd=directory, capture_output=True, text=True, check=False)


def test_the_backend_on_the_page_is_the_example() -> None:
    """The backend on the page is the example, character for character."""
    assert marked(PAGE, "sqlite") == EXAMPLE


def test_a_backend_that_holds_passes(tmp_path: Path) -> None:
    """A correct backend passes; tests of optional features that it lacks are skipped with the reason."""
    done = run_contract(tmp_path, EXAMPLE, "-k", "signal or listed or aborted")

    assert done.returncode == 0, done.stdout
    assert "this backend has no broadcasts: supports_broadcast is False" in done.stdout


@pytest.mark.parametrize(
    ("whole", "broken", "test", "seen"),
    [
        ("max(expiry, end)", "expiry", "test_the_longest_of_the_times_to_live_counts", "assert [False, False] =="),
        ("self._handed_out[key] = number", "pass", "test_a_signal_is_returned_once", "assert [b'a', b'a'] =="),
        ("live if event.gives_way_to(live) else value", "value", "test_the_stronger", "assert b'two' == b'one'"),
        ("[key, None, expiry]", "[key, value, expiry]", "test_a_signal_can_be_revoked", "assert [True, True"),
        ("time.sleep(0.01)", "break", "test_a_wait_lasts_as_long_as_its_timeout", "assert 0."),
        (
            "value, expiry = event.value",
            IGNORES_WHAT_WAS_TAKEN_BACK,
            "revoked_key_can_be_signaled_again",
            "assert None is not None",
        ),
        ("def poll(", KNOWS_NO_AGE, "test_an_age", "assert None is not None"),
        ("return value is not None", "raise NotImplementedError", "test_an_abort_is_undone", "was not restored"),
    ],
)
def test_a_backend_that_does_not_hold_fails(tmp_path: Path, whole: str, broken: str, test: str, seen: str) -> None:
    """A broken backend fails, with a description of what was observed."""
    assert whole in EXAMPLE
    done = run_contract(tmp_path, EXAMPLE.replace(whole, broken), "-k", test)

    assert done.returncode == 1, done.stdout
    assert seen in done.stdout
