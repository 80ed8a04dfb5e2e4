"""DRAMATIQ_ABORT_EXTENSION at import; test_packaging.py tests its effect on a build."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support import needs_gil

import dramatiq_abort
from dramatiq_abort import interrupt
from dramatiq_abort._core.gil import GIL_IS_ON

pytestmark = [pytest.mark.slow, pytest.mark.pure_core, pytest.mark.unpatched]

SWITCH = "DRAMATIQ_ABORT_EXTENSION"

#: Imports the package without its compiled core.
WITHOUT_EXTENSION = "import sys; sys.modules['dramatiq_abort._interrupt'] = None; "

#: Makes the interpreter report that it runs without the GIL.
WITHOUT_GIL = (
    "import sys, types; "
    "flags = {name: getattr(sys.flags, name) for name in dir(sys.flags) if not name.startswith('_')}; "
    "sys.flags = types.SimpleNamespace(**flags | {'gil': None}); "
)

#: Prints the imported core.
IMPORT = (
    "import json, sys; from dramatiq_abort import interrupt; "
    "print(json.dumps([interrupt.IMPLEMENTATION, interrupt.Scope.__module__, sorted(sys.modules)]))"
)

needs_extension = pytest.mark.skipif(
    os.environ.get(SWITCH) != "1" and (not GIL_IS_ON or importlib.util.find_spec("dramatiq_abort._interrupt") is None),
    reason="the compiled core is not installed, or cannot be used",
)


def run(code: str, switch: str | None) -> subprocess.CompletedProcess[str]:
    """Run code with the variable set or unset, where no source tree precedes the installed package."""
    env = {name: value for name, value in os.environ.items() if name != SWITCH}
    if switch is not None:
        env[SWITCH] = switch
    return subprocess.run([sys.executable, "-I", "-c", code], env=env, capture_output=True, text=True, check=False)


def imported(code: str, switch: str | None) -> tuple[str, str, list[str]]:
    done = run(code, switch)
    assert done.returncode == 0, done.stderr
    implementation, module, modules = json.loads(done.stdout)
    return implementation, module, modules


def error_of(code: str, switch: str) -> str:
    done = run(code, switch)
    assert done.returncode == 1, done.stdout
    return done.stderr.splitlines()[-1]


def test_the_package_under_test_is_the_installed_one() -> None:
    """The tests use the installed package, not the source tree, except for an editable installation."""
    site_packages = Path(sysconfig.get_path("platlib"))
    (distribution,) = importlib.metadata.distributions(name="dramatiq-abort", path=[str(site_packages)])
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    is_editable = origin.get("dir_info", {}).get("editable", False)
    expected = Path(__file__).parents[1] if is_editable else site_packages

    assert Path(dramatiq_abort.__file__).parents[1].samefile(expected)


def test_the_core_under_test_is_the_one_that_was_asked_for() -> None:
    """A run that requires the compiled core does not silently test the other one."""
    expected = {
        "0": {"python"},
        "1": {"cython"},
        "auto": {"cython", "python"},
    }[os.environ.get(SWITCH, "auto")]

    assert interrupt.IMPLEMENTATION in expected
    module = {"cython": "dramatiq_abort._interrupt", "python": "dramatiq_abort._core.interrupt_py"}
    assert interrupt.Scope.__module__ == module[interrupt.IMPLEMENTATION]


@needs_extension
@pytest.mark.parametrize("switch", [None, "auto", "1"])
def test_the_compiled_core_is_taken_where_it_is_there(switch: str | None) -> None:
    """The compiled core is used if installed, also by default."""
    implementation, module, modules = imported(IMPORT, switch)

    assert (implementation, module) == ("cython", "dramatiq_abort._interrupt")
    assert "dramatiq_abort._core.interrupt_py" not in modules


@pytest.mark.parametrize("switch", [None, "auto"])
def test_the_pure_core_is_taken_where_there_is_no_other(switch: str | None) -> None:
    """Without a compiled core, the pure-Python core is used; only the implementation's name shows it."""
    implementation, module, _ = imported(WITHOUT_EXTENSION + IMPORT, switch)

    assert (implementation, module) == ("python", "dramatiq_abort._core.interrupt_py")


def test_0_takes_the_pure_core() -> None:
    """With 0, the compiled core is not even imported."""
    implementation, module, modules = imported(IMPORT, "0")

    assert (implementation, module) == ("python", "dramatiq_abort._core.interrupt_py")
    assert "dramatiq_abort._interrupt" not in modules


@pytest.mark.parametrize("switch", [None, "auto", "0"])
def test_the_pure_core_is_taken_without_the_gil(switch: str | None) -> None:
    """Without the GIL, the compiled core is not imported, because that would enable the GIL."""
    implementation, module, modules = imported(WITHOUT_GIL + IMPORT, switch)

    assert (implementation, module) == ("python", "dramatiq_abort._core.interrupt_py")
    assert "dramatiq_abort._interrupt" not in modules


@pytest.mark.parametrize("code", ["import dramatiq_abort", IMPORT])
def test_1_is_an_error_without_the_gil(code: str) -> None:
    """With 1 and without the GIL, importing the compiled core raises at once and says what to do."""
    error = error_of(WITHOUT_GIL + code, "1")

    assert error.startswith(f"ImportError: {SWITCH} is '1'")
    for words in ("needs the GIL", "free-threaded", "'auto'", "'0'"):
        assert words in error


@pytest.mark.skipif(GIL_IS_ON, reason="this interpreter has the GIL")
def test_the_gil_stays_off() -> None:
    """Importing the package neither warns nor enables the GIL."""
    code = (
        "import json, sys, warnings; warnings.simplefilter('error'); "
        "import dramatiq_abort, dramatiq_abort._worker.runtime; "
        "from dramatiq_abort.interrupt import IMPLEMENTATION; "
        "print(json.dumps([IMPLEMENTATION, str(sys._is_gil_enabled()), []]))"
    )
    implementation, is_on, _ = imported(code, "auto")

    assert (implementation, is_on) == ("python", "False")


@needs_gil
def test_1_is_an_error_without_the_compiled_core() -> None:
    """With 1 and without a compiled core, the error says what is missing."""
    error = error_of(WITHOUT_EXTENSION + IMPORT, "1")

    assert "ImportError" in error or "ModuleNotFoundError" in error
    assert "dramatiq_abort._interrupt" in error


@pytest.mark.parametrize("switch", ["", "2", "01", "true", "AUTO", " 1"])
def test_any_other_value_is_an_error(switch: str) -> None:
    """Another value raises an error that names the variable, the value and the allowed values."""
    error = error_of(IMPORT, switch)

    assert error.startswith("ImportError")
    for word in (SWITCH, repr(switch), "'auto'", "'0'", "'1'"):
        assert word in error


@pytest.mark.parametrize(
    ("code", "switch", "word"),
    [pytest.param(WITHOUT_EXTENSION, "1", "dramatiq_abort._interrupt", marks=needs_gil), ("", "2", SWITCH)],
)
def test_an_error_comes_at_once(code: str, switch: str, word: str) -> None:
    """An error is raised at import, not at a worker's start, whose other threads would keep it alive."""
    assert word in error_of(code + "import dramatiq_abort", switch)


def test_a_worker_whose_core_is_broken_does_not_start() -> None:
    """A worker with a broken core does not start; otherwise, its messages could not be aborted."""
    code = (
        "import sys; sys.modules['dramatiq_abort.interrupt'] = None; "
        "import dramatiq; from dramatiq.brokers.stub import StubBroker; from dramatiq_abort import Abortable; "
        "dramatiq.Worker(StubBroker(middleware=[Abortable()])).start()"
    )

    error = error_of(code, "auto")

    assert error.startswith("dramatiq_abort.errors.ConfigurationError: this worker cannot interrupt messages")


def test_who_only_aborts_does_not_import_a_core() -> None:
    """A process that only aborts imports neither a core nor other modules of the worker."""
    code = (
        "import json, sys, dramatiq; from dramatiq.brokers.stub import StubBroker; from dramatiq_abort import *; "
        "dramatiq.set_broker(StubBroker(middleware=[Abortable()])); dramatiq.actor(print); abort('x'); "
        "print(json.dumps(['', '', sorted(sys.modules)]))"
    )
    _, _, modules = imported(code, None)

    for name in (
        "interrupt",
        "_interrupt",
        "_core.interrupt_py",
        "_core.safe_points",
        "_core.bytecode",
        "_worker.broker_runtime",
        "_worker.calls",
        "_worker.execution",
        "_worker.runtime",
        "_worker.watcher",
    ):
        assert f"dramatiq_abort.{name}" not in modules
