"""Draw which part of the package imports which: ``python docs/imports.py --write`` writes it to internals.md.

A part is a folder or, at the top, a file. Imports for types count, as do those inside functions.
"""

from __future__ import annotations

import ast
import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

#: From the bottom to the top: each part imports only from those before it.
LAYERS = (
    ("_version",),
    ("_core",),
    ("interrupt",),
    ("errors",),
    ("_protocol",),
    ("backends",),
    ("_task",),
    ("_worker",),
    ("_middleware",),
    ("_client",),
    ("_contract", "web"),
    ("abort_manager", "backend", "cli", "contract", "middleware"),
    ("__init__", "__main__"),
)

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dramatiq_abort"


def modules() -> dict[str, Path]:
    """Return the files of the package by module name, without the prefix ``dramatiq_abort``."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Return the modules of the package that a module imports, including imports for types and inside functions."""
    package = name.split(".") if path.name == "__init__.py" and name != "__init__" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            module = [*base, *(node.module or "").split(".")] if node.module else base
            for alias in node.names:
                whole = ".".join([*module, alias.name])
                found.add(whole if whole in known else ".".join(module) or "__init__")
    return found - {"_interrupt"}


def part_of(module: str) -> str:
    """Return the part of the package that contains a module."""
    return module.split(".", maxsplit=1)[0]


def arrows() -> dict[str, set[str]]:
    """Return the parts that each part imports."""
    known = modules()
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        parts = {part_of(module) for module in imports(name, path, known)} - {part_of(name)}
        found[part_of(name)] = found.get(part_of(name), set()) | parts
    return found


def upward() -> list[tuple[str, str]]:
    """Return the imports of a higher layer or of another part of the same layer, which are errors."""
    known = modules()
    level = {part: number for number, parts in enumerate(LAYERS) for part in parts}
    return [
        (name, module)
        for name, path in known.items()
        for module in sorted(imports(name, path, known))
        if part_of(module) != part_of(name) and level[part_of(module)] >= level[part_of(name)]
    ]


def circle() -> list[str]:
    """Return modules that import each other in a circle, which is an error."""
    known = modules()
    try:
        TopologicalSorter({name: imports(name, path, known) - {name} for name, path in known.items()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def drawing() -> str:
    """Draw the imports: one row per part, with a mark in the column of each part that it imports."""
    parts = [part for layer in reversed(LAYERS) for part in layer if part not in {"__init__", "__main__"}]
    found = arrows()
    width = max(map(len, parts))
    lines = [" " * (width + 4) + " ".join(f"{number:2}" for number in range(1, len(parts) + 1))]
    for number, part in enumerate(parts, 1):
        marks = " ".join(" \\" if other == part else " ●" if other in found[part] else " ·" for other in parts)
        lines.append(f"{number:2}  {part:{width}}{marks}".rstrip())
    return "\n".join(lines)


def main() -> None:
    page = ROOT / "docs" / "internals.md"
    text = page.read_text(encoding="utf-8")
    block = f"<!-- imports -->\n```text\n{drawing()}\n```\n<!-- /imports -->"
    new = re.sub(r"<!-- imports -->.*?<!-- /imports -->", lambda _: block, text, flags=re.DOTALL)
    if "--write" in sys.argv[1:]:
        page.write_text(new, encoding="utf-8")
    elif new != text:
        sys.exit("The drawing of the imports is out of date: python docs/imports.py --write")


if __name__ == "__main__":
    main()
