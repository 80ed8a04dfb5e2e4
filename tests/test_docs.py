"""What the documentation says that can be compared with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dramatiq_abort import _safe_points

ROOT = Path(__file__).parent.parent
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def between(marks: str) -> str:
    found = re.search(rf"<!-- {marks} -->\n(.*)<!-- /{marks} -->", GUARANTEES, re.DOTALL)
    assert found is not None
    return found[1]


def test_each_rule_for_shields_has_its_test() -> None:
    """And each test of shields its rule."""
    rules = re.findall(r"`(test_\w+)`", between("rules"))
    tests = re.findall(
        r"^def (test_\w+)", (ROOT / "tests" / "test_shield.py").read_text(encoding="utf-8"), re.MULTILINE
    )

    assert sorted(rules) == sorted(tests)


def test_the_protected_modules_are_the_codes() -> None:
    """With their reasons."""
    rows = [f"| `{module}` | {reason} |" for module, reason in sorted(_safe_points.PROTECTED_MODULES.items())]

    assert between("protected").splitlines() == ["| module | what would be left half done |", "|---|---|", *rows]


def test_the_page_on_databases_names_its_tests() -> None:
    """Each of them, and no others."""
    page = (ROOT / "docs" / "databases.md").read_text(encoding="utf-8")
    tests = (ROOT / "tests" / "test_databases.py").read_text(encoding="utf-8")

    assert set(re.findall(r"`(test_\w+)`", page)) == set(re.findall(r"^def (test_\w+)", tests, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file, or to a heading of the page."""
    text = page.read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w -]", "", line).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text.lower(), re.MULTILINE)
    }
    for target in re.findall(r"\]\((?!https?://)([^)]*)\)", text):
        path, _, anchor = target.partition("#")
        assert (page.parent / path).exists()
        assert path or anchor in headings
