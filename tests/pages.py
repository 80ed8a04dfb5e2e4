"""The pages of the documentation, and the programs on them."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    #: The type of the fixture ``start``.
    Start = Callable[..., subprocess.Popen[str]]

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted({*ROOT.glob("*.md"), *DOCS.rglob("*.md")} - {*DOCS.glob("_build/**/*.md")})


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """Return all code blocks on a page in this language."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text_of(page), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for _, block in found]


def all_marked(page: Path, mark: str) -> list[str]:
    """Return the blocks on a page between markers of this name."""
    return re.findall(
        rf"^<!-- {mark} -->\n```\w+\n(.*?)^```\n<!-- /{mark} -->$", text_of(page), re.DOTALL | re.MULTILINE
    )


def marked(page: Path, mark: str) -> str:
    [block] = all_marked(page, mark)
    return block


def files(page: Path) -> dict[str, str]:
    """Return the files that a page shows, by the name in the comment before each."""
    return dict(re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE))
