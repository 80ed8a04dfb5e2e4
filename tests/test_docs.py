"""Statements of the documentation that can be compared with the code."""

from __future__ import annotations

import re
from importlib import import_module
from runpy import run_path
from typing import TYPE_CHECKING

import pytest
from pages import DOCS, PAGES, ROOT, name_of, text_of

from dramatiq_abort._core.protected_code import CUT_IN, PROTECTED_IN, PROTECTED_MODULES

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unpatched


def between(marks: str) -> str:
    found = re.search(rf"<!-- {marks} -->\n(.*)<!-- /{marks} -->", text_of(DOCS / "guarantees.md"), re.DOTALL)
    assert found is not None
    return found[1]


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as on GitHub and in Sphinx."""
    text = re.sub(r"^```.*?^```", "", text_of(page).lower(), flags=re.DOTALL | re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def test_each_rule_for_shields_has_its_test() -> None:
    """Each rule for shields has a test, and each test of shields a rule."""
    rules = re.findall(r"`(test_\w+)`", between("rules"))
    tests = re.findall(
        r"^def (test_\w+)", (ROOT / "tests" / "test_shield.py").read_text(encoding="utf-8"), re.MULTILINE
    )

    assert sorted(rules) == sorted(tests)


def test_the_protected_modules_are_the_codes() -> None:
    """The page lists the protected modules of the code, with their reasons."""
    rows = [f"| `{module}` | {reason} |" for module, reason in sorted(PROTECTED_MODULES.items())]

    assert between("protected").splitlines() == ["| module | what would be left half done |", "|---|---|", *rows]


def test_the_protected_functions_are_the_codes() -> None:
    """The page lists the protected functions of the code, with their reasons and marks."""
    rows = []
    for module, functions in sorted(PROTECTED_IN.items()):
        for reason in dict.fromkeys(functions.values()):
            names = sorted(name for name in functions if functions[name] == reason)
            marked = ", ".join(f"`{name}`" + " (*)" * ((module, name) in CUT_IN) for name in names)
            rows.append(f"| `{module}` | {marked} | {reason} |")

    assert between("functions").splitlines() == [
        "| module | functions | what would be left half done |",
        "|---|---|---|",
        *rows,
    ]


def test_the_page_on_databases_names_its_tests() -> None:
    """The page on databases names exactly the tests of databases."""
    page = text_of(DOCS / "guides" / "databases.md")
    tests = (ROOT / "tests" / "test_databases.py").read_text(encoding="utf-8")

    assert set(re.findall(r"`(test_\w+)`", page)) == set(re.findall(r"^def (test_\w+)", tests, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Each link leads to a file, or to a heading of a page."""
    text = text_of(page)
    for target in [*re.findall(r"\]\((?!https?://)([^)]*)\)", text), *re.findall(r'<img src="([^"]*)"', text)]:
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.is_file(), target
        assert not anchor or anchor in headings(there), target


def test_the_map_has_each_folder_and_file() -> None:
    """The map lists each folder and file at the top, and each file of the worker."""
    package = ROOT / "dramatiq_abort"
    if not package.exists():
        pytest.skip("the tests are here without the project")
    text = text_of(DOCS / "internals.md")
    named = set(re.findall(r"`([\w./]+)`", text[text.index("## Where to find what") : text.index("<!-- imports -->")]))
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    files = {path.name for path in package.glob("*.py*")} | {path.name for path in (package / "_worker").glob("*.p*")}

    assert folders | files - {"__init__.py", "py.typed", "_version.py"} <= named


def test_a_message_id_passes_through_few_files() -> None:
    """A message id passes through at most 12 existing files, from abort() to the exception."""
    package = ROOT / "dramatiq_abort"
    if not package.exists():
        pytest.skip("the tests are here without the project")
    text = text_of(DOCS / "internals.md")
    files = re.findall(r"`([\w/]+\.py)`", text[text.index("The files that a") : text.index("From there on")])

    assert 0 < len(files) <= 12
    assert all((package / file).exists() for file in files)


def test_no_part_of_the_package_imports_one_above_it() -> None:
    """No part imports one above it or itself in a circle, also for types, and the drawing is up to date."""
    script = DOCS / "imports.py"
    if not script.exists():
        pytest.skip("the tests are here without the project")
    module = run_path(str(script))

    assert (module["upward"](), module["circle"]()) == ([], [])
    module["main"]()


@pytest.mark.parametrize(
    "module", ["dramatiq_abort", *(f"dramatiq_abort.{name}" for name in ("backends", "contract", "interrupt", "web"))]
)
def test_the_reference_has_each_public_name(module: str) -> None:
    """The reference lists each public name once."""
    if module == "dramatiq_abort.web":
        pytest.importorskip("flask")
    described = re.findall(r"^\.\. (?:auto\w+|py:data):: ([\w.]+)", text_of(DOCS / "reference.md"), re.MULTILINE)

    for name in import_module(module).__all__:
        assert described.count(f"{module}.{name}") == 1
