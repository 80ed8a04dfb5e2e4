"""Build the compiled interrupt core; everything else is in pyproject.toml."""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

# auto: build the extension if the compiler can, 0: do not, 1: it is an error if it cannot be built.
switch = os.environ.get("DRAMATIQ_ABORT_EXTENSION", "auto")
if switch not in {"auto", "0", "1"}:
    sys.exit(f"DRAMATIQ_ABORT_EXTENSION is {switch!r}: set it to 'auto', '0' or '1'")

# PyPy has no PyThreadState_SetAsyncExc.
wanted = switch == "1" or (switch == "auto" and sys.implementation.name == "cpython")
extension = Extension(
    "dramatiq_abort._interrupt",
    ["dramatiq_abort/_interrupt.pyx"],
    depends=[str(path) for kind in ("*.h", "*.px[di]") for path in Path("dramatiq_abort").glob(kind)],
    optional=switch == "auto",
)

setup(ext_modules=[extension] if wanted else [])
