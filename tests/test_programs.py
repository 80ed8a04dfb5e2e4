"""The programs in the documentation run, and print the documented output."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from pages import DOCS, PAGES, ROOT, all_marked, blocks, files, marked, name_of, text_of
from support import PATIENCE, needs_interrupts, server_binaries

from dramatiq_abort import Event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pages import Start
    from ways import Installation

pytestmark = [pytest.mark.main_interpreter, pytest.mark.newest_dependencies, pytest.mark.unpatched]

GUIDES = DOCS / "guides"

#: Pages with tests of their own: below, and in the files for contract, examples, tutorial and dashboard.
OTHERS = {
    "README.md",
    "docs/backends.md",
    "docs/monitoring.md",
    "docs/guides/django.md",
    "docs/guides/sentinel-and-cluster.md",
    "docs/guides/testing.md",
    "docs/tutorial.md",
    "docs/web.md",
}

#: Additional requirements of a page's programs.
NEEDS = {"docs/guides/databases.md": ["sqlalchemy", "psycopg"]}


WITH_PROGRAMS = [page for page in PAGES if blocks(page, "python") and name_of(page) not in OTHERS]


@needs_interrupts
@pytest.mark.parametrize("page", WITH_PROGRAMS, ids=name_of)
def test_the_programs_of_a_page_print_what_it_says(start: Start, page: Path) -> None:
    """The programs of a page, put together, print the documented output."""
    for module in NEEDS.get(name_of(page), []):
        pytest.importorskip(module)
    program = start("-c", "\n".join(blocks(page, "python")))
    output, errors = program.communicate(timeout=PATIENCE)

    assert (output, program.returncode) == ("".join(all_marked(page, "output")), 0), errors


def test_parts_of_examples_are_in_the_examples() -> None:
    """Quoted parts of examples match them exactly; test_examples.py runs the examples."""
    parts = re.findall(
        r"^<!-- (examples/\S+) -->\n```python\n(.*?)^```$", text_of(GUIDES / "django.md"), re.DOTALL | re.MULTILINE
    )

    assert [part for _, part in parts] == blocks(GUIDES / "django.md", "python")
    for name, part in parts:
        assert part in (ROOT / name).read_text(encoding="utf-8")


@needs_interrupts
def test_the_tests_of_the_guide_to_tests(start: Start, tmp_path: Path) -> None:
    """The tests in the guide pass, and detect errors."""
    page = GUIDES / "testing.md"
    for name, text in files(page).items():
        (tmp_path / name).write_text(text, encoding="utf-8")

    def said() -> str:
        output, _ = start("-m", "pytest", "-q", "-p", "no:cacheprovider", ".").communicate(timeout=PATIENCE)
        return output.splitlines()[-1]

    assert said().startswith(marked(page, "output").strip())
    tasks = tmp_path / "tasks.py"
    tasks.write_text(tasks.read_text(encoding="utf-8").replace("locks.discard(name)", "pass"), encoding="utf-8")
    assert said().startswith("1 failed, 1 passed")


#: For each kind of connection: the address on the page, and its replacement.
ADDRESSES: dict[str, Callable[[Installation], dict[str, object]]] = {
    "sentinel": lambda servers: {
        '("sentinel-1", 26379)': ("127.0.0.1", servers.sentinel_port),
        '("sentinel-2", 26379)': ("127.0.0.1", servers.sentinel_port),
    },
    "cluster": lambda servers: {'host="node-1", port=6379': f'host="127.0.0.1", port={servers.cluster[0].port}'},
    "tls": lambda servers: {
        "localhost:6380": f"localhost:{servers.tls_port}",
        "/etc/ssl/our-own.pem": servers.certificate,
    },
    "unix": lambda servers: {"/run/redis.sock": servers.single and servers.socket},
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_ways_to_a_server(name: str, installation: Callable[[str], Installation]) -> None:
    """Each connection on the page carries requests."""
    binaries = server_binaries() or pytest.skip("no server")
    page = GUIDES / "sentinel-and-cluster.md"
    assert len(blocks(page, "python")) == len(ADDRESSES)
    program = marked(page, name)
    for address, ours in ADDRESSES[name](installation(binaries[0])).items():
        assert address in program
        program = program.replace(address, str(ours))
    made: dict[str, Any] = {}
    exec(program, made)

    backend = made["abortable"].backend
    backend.signal([Event(b"key", b"", 60_000)])
    assert backend.poll(b"key")
