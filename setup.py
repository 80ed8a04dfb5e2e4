"""Build the compiled interrupt core. Everything else is configured in pyproject.toml."""

import os
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

# auto: build the extension if the interpreter can use it and the compiler can build it; 0: do not build it; 1: fail if
# it cannot be built.
switch = os.environ.get("DRAMATIQ_ABORT_EXTENSION", "auto")
if switch not in {"auto", "0", "1"}:
    sys.exit(f"DRAMATIQ_ABORT_EXTENSION must be 'auto', '0' or '1', not {switch!r}")

# The compiled core relies on the GIL: a free-threaded interpreter would switch it on for the whole process.
is_free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
if switch == "1" and is_free_threaded:
    sys.exit(
        "DRAMATIQ_ABORT_EXTENSION is '1', but the compiled core needs the GIL, and this Python is a free-threaded "
        "build: set the variable to 'auto' or '0' to use the pure-Python core, or build with a Python that has the GIL"
    )
# PyPy has no PyThreadState_SetAsyncExc.
is_usable = sys.implementation.name == "cpython" and not is_free_threaded
wanted = switch == "1" or (switch == "auto" and is_usable)
extension = Extension(
    "dramatiq_abort._interrupt",
    ["dramatiq_abort/_interrupt.pyx"],
    depends=[str(path) for kind in ("*.h", "*.px[di]") for path in Path("dramatiq_abort").rglob(kind)],
    optional=switch == "auto",
)

setup(ext_modules=[extension] if wanted else [])
