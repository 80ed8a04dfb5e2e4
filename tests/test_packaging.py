"""The published files, built from a copy of this tree: the sdist, the platform wheel and the pure wheel."""

from __future__ import annotations

import email.parser
import importlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from dramatiq_abort._core.gil import GIL_IS_ON

if TYPE_CHECKING:
    from email.message import Message

SWITCH = "DRAMATIQ_ABORT_EXTENSION"
ROOT = Path(__file__).parents[1]

#: Stray files of a developer's tree that must not be published.
STRAY = [
    "dramatiq_abort/_interrupt.c",
    "dramatiq_abort/_interrupt.cpython-00-stray.so",
    "dramatiq_abort/_interrupt.cp00-stray.pyd",
    "tests/__pycache__/stray.cpython-00.pyc",
    "docs/_build/html/stray.html",
]

#: The first builds compile, which is slow.
pytestmark = [
    pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="the tests are here without the project"),
    pytest.mark.timeout(300),
    pytest.mark.main_interpreter,
    pytest.mark.newest_dependencies,
    pytest.mark.unpatched,
]


class Built(NamedTuple):
    """An sdist and the wheel that was built from it."""

    sdist: Path
    wheel: Path


def copy_of_the_tree(to: Path) -> Path:
    """Copy the files that the build reads, and files that must not mislead it."""
    junk = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "*.so", "*.pyd", "*.c")
    tree = to / "tree"
    shutil.copytree(ROOT, tree, ignore=junk)
    for name in STRAY:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("stray")
    return tree


def run_build(tree: Path, switch: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the build with installed packages, without the network."""
    return subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tree / "dist"), *words, str(tree)],
        env=os.environ | {SWITCH: switch} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def build(tree: Path, switch: str) -> Built:
    """Build as for publishing: the sdist, and from it the wheel, without debugging information."""
    done = run_build(tree, switch, LDFLAGS="-s")
    assert done.returncode == 0, done.stdout
    (sdist,) = (tree / "dist").glob("*.tar.gz")
    (wheel,) = (tree / "dist").glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture(scope="module")
def compiler() -> None:
    """Skip the test without a working compiler; in CI, fail."""
    if sys.implementation.name != "cpython" or not GIL_IS_ON:
        pytest.skip("the compiled core is for CPython with the GIL")
    words = (sysconfig.get_config_var("CC") or "").split()
    if os.name == "posix" and (not words or shutil.which(words[0]) is None):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no C compiler")


@pytest.fixture(scope="module")
def platform(compiler: None, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build with the extension."""
    return build(copy_of_the_tree(tmp_path_factory.mktemp("platform")), "1")


@pytest.fixture(scope="module")
def pure(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build without the extension."""
    return build(copy_of_the_tree(tmp_path_factory.mktemp("pure")), "0")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a copy of the tree that the test builds itself."""
    return copy_of_the_tree(tmp_path)


def files_in(archive: Path) -> set[str]:
    """Return the names in an archive, without the top directory of an sdist."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return set(wheel.namelist())
    with tarfile.open(archive) as sdist:
        return {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.parser.BytesParser().parsebytes(archive.read(name))


def tags_of(wheel: Path) -> tuple[str, ...]:
    """Return the last three parts of a wheel's name: Python, ABI and platform."""
    return tuple(wheel.stem.split("-")[-3:])


def with_suffix(names: set[str], *suffixes: str) -> list[str]:
    return sorted(name for name in names if name.endswith(suffixes))


def import_from(wheel: Path, to: Path, switch: str) -> subprocess.CompletedProcess[str]:
    """Install a wheel into a directory, and return what is imported from there and the core in use."""
    install = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    install += ["--no-deps", "--no-index", "--target", str(to), str(wheel)]
    subprocess.run(install, check=True)
    # First on the path, before the package under test: only dependencies come from the latter's environment.
    code = (
        f"import sys; sys.path.insert(0, {str(to)!r})\n"
        "from dramatiq_abort import __file__, interrupt\n"
        "print(__file__, interrupt.IMPLEMENTATION)"
    )
    return subprocess.run(
        [sys.executable, "-I", "-c", code],
        env=os.environ | {SWITCH: switch},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("kind", ["platform", "pure"])
def test_the_sdist_has_all_that_a_build_and_the_tests_need(kind: str, request: pytest.FixtureRequest) -> None:
    """The sdist contains the extension's source even if it was built without the extension."""
    files = files_in(request.getfixturevalue(kind).sdist)

    expected = {"LICENSE", "README.md", "MANIFEST.in", "pyproject.toml", "setup.py"}
    expected |= {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")}
    for pattern in ("*.py", "*.pyi", "*.pyx", "*.px[di]", "*.h", "py.typed", "static/*", "templates/*"):
        expected |= {str(path.relative_to(ROOT)) for path in (ROOT / "dramatiq_abort").rglob(pattern)}
    assert expected - files == set()


@pytest.mark.parametrize("kind", ["platform", "pure"])
def test_the_sdist_has_nothing_that_was_made_here(kind: str, request: pytest.FixtureRequest) -> None:
    """The sdist contains neither products of the build nor stray files of the tree."""
    files = files_in(request.getfixturevalue(kind).sdist)

    assert with_suffix(files, ".c", ".so", ".pyd", ".pyc") == []
    assert not any(name.startswith("docs/_build/") for name in files)


def test_the_platform_wheel_has_the_extension_once(platform: Built) -> None:
    """The platform wheel contains only the extension built for this interpreter, not a stray one."""
    compiled = with_suffix(files_in(platform.wheel), ".so", ".pyd")

    assert compiled == [f"dramatiq_abort/_interrupt{sysconfig.get_config_var('EXT_SUFFIX')}"]


def test_the_platform_wheel_is_for_this_interpreter_and_platform(platform: Built) -> None:
    """Wheels are per version, because the extension reads a field that the limited API lacks."""
    python, abi, system = tags_of(platform.wheel)

    assert python == f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert abi.startswith(python)
    assert system != "any"


def test_the_pure_wheel_is_for_everybody(pure: Built) -> None:
    """The pure wheel suits every interpreter and platform, such as PyPy."""
    assert tags_of(pure.wheel) == ("py3", "none", "any")
    assert with_suffix(files_in(pure.wheel), ".so", ".pyd") == []


@pytest.mark.parametrize("kind", ["platform", "pure"])
def test_a_wheel_has_the_package_and_its_types_only(kind: str, request: pytest.FixtureRequest) -> None:
    """Wheels contain no tests and no sources of the extension, but its stub, for type checkers."""
    files = files_in(request.getfixturevalue(kind).wheel)

    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "dramatiq_abort").rglob("*.py")}
    package = ROOT / "dramatiq_abort"
    folders = (package / "backends" / "redis" / "lua", package / "web" / "static", package / "web" / "templates")
    data = {str(path.relative_to(ROOT)) for folder in folders for path in folder.iterdir()}
    assert len(data) == 14
    typed = {"dramatiq_abort/py.typed", "dramatiq_abort/_interrupt.pyi"}
    others = {name for name in files if ".dist-info/" not in name and not name.endswith((".so", ".pyd"))}
    assert others == modules | typed | data
    assert any(re.fullmatch(r"dramatiq_abort-[^/]*\.dist-info/licenses/LICENSE", name) for name in files)


@pytest.mark.parametrize("kind", ["platform", "pure"])
def test_a_wheel_is_small(kind: str, request: pytest.FixtureRequest) -> None:
    """A wheel is small enough not to matter in a worker's image."""
    assert request.getfixturevalue(kind).wheel.stat().st_size < 330_000


@pytest.mark.parametrize("kind", ["platform", "pure"])
def test_the_metadata(kind: str, request: pytest.FixtureRequest) -> None:
    """Both wheels have the same metadata."""
    metadata = metadata_of(request.getfixturevalue(kind).wheel)

    assert metadata["Name"] == "dramatiq-abort"
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert {"redis", "gevent"} <= set(metadata.get_all("Provides-Extra") or [])
    requirements = metadata.get_all("Requires-Dist") or []
    assert [name for name in requirements if "extra ==" not in name] == ["dramatiq>=1.17"]
    assert "Typing :: Typed" in (metadata.get_all("Classifier") or [])


def test_the_platform_wheel_works(platform: Built, tmp_path: Path) -> None:
    """The platform wheel, installed alone, uses the compiled core."""
    done = import_from(platform.wheel, tmp_path, "1")

    assert done.stdout.split() == [str(tmp_path / "dramatiq_abort" / "__init__.py"), "cython"], done.stderr


def test_the_pure_wheel_works(pure: Built, tmp_path: Path) -> None:
    """The pure wheel, installed alone, uses the pure-Python core."""
    done = import_from(pure.wheel, tmp_path, "auto")

    assert done.stdout.split() == [str(tmp_path / "dramatiq_abort" / "__init__.py"), "python"], done.stderr


def test_the_pure_wheel_does_not_pass_for_the_compiled_one(pure: Built, tmp_path: Path) -> None:
    """With the pure wheel, requiring the compiled core is an import error."""
    done = import_from(pure.wheel, tmp_path, "1")

    assert done.returncode == 1
    assert "dramatiq_abort._interrupt" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("switch", ["", "2", "true"])
def test_any_other_value_of_the_switch_is_a_build_error(switch: str, tree: Path) -> None:
    """The error of a build names the variable and its invalid value."""
    done = run_build(tree, switch, "--wheel")

    assert done.returncode != 0
    assert f"{SWITCH} must be 'auto', '0' or '1', not {switch!r}" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="how the compiler is found is another story here")
@pytest.mark.skipif(sys.implementation.name != "cpython", reason="no extension is built by default here")
def test_a_compiler_that_fails_leaves_the_pure_core_by_default(tree: Path) -> None:
    """By default, a build without a compiler omits the extension and Cython's output."""
    done = run_build(tree, "auto", "--wheel", CC="false")

    assert done.returncode == 0, done.stdout
    (wheel,) = (tree / "dist").glob("*.whl")
    assert with_suffix(files_in(wheel), ".so", ".pyd", ".c") == []
    assert sorted(path.name for path in (tree / "dramatiq_abort").glob("*.c")) == ["_interrupt.c"]
    assert (tree / "dramatiq_abort" / "_interrupt.c").read_text() == "stray"


@pytest.mark.skipif(os.name != "posix", reason="how the compiler is found is another story here")
def test_a_compiler_that_fails_is_an_error_when_the_extension_is_required(tree: Path) -> None:
    """If the extension is required, a failing compiler fails the build."""
    done = run_build(tree, "1", "--wheel", CC="false")

    assert done.returncode != 0
    assert not list((tree / "dist").glob("*.whl"))


@pytest.fixture
def free_threaded(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which builds take Python for a free-threaded one."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import sysconfig\nsysconfig.get_config_vars()['Py_GIL_DISABLED'] = 1\n")
    return {"PYTHONPATH": str(site)}


def test_a_free_threaded_build_gets_the_pure_core_by_default(tree: Path, free_threaded: dict[str, str]) -> None:
    """By default, a free-threaded build omits the extension, which would enable the GIL."""
    done = run_build(tree, "auto", "--wheel", **free_threaded)

    assert done.returncode == 0, done.stdout
    (wheel,) = (tree / "dist").glob("*.whl")
    assert tags_of(wheel) == ("py3", "none", "any")


def test_a_free_threaded_build_is_an_error_when_the_extension_is_required(
    tree: Path, free_threaded: dict[str, str]
) -> None:
    """If the extension is required, a free-threaded build fails and says what to do."""
    done = run_build(tree, "1", "--wheel", **free_threaded)

    assert done.returncode != 0
    assert not list((tree / "dist").glob("*.whl"))
    for words in (f"{SWITCH} is '1'", "needs the GIL", "'auto'", "'0'"):
        assert words in done.stdout


@pytest.mark.skipif(not (ROOT / "benchmarks").exists(), reason="the tests are here without the benchmarks")
def test_what_the_gate_is_tried_with_has_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each slowdown of ``benchmarks/planted.py`` replaces a text that occurs once."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    planted = importlib.import_module("planted")

    places = {
        plant.what: (ROOT / plant.path).read_text(encoding="utf-8").count(plant.before) for plant in planted.PLANTS
    }

    assert set(places.values()) == {1}, places
