"""The interrupt core: an exception raised from another thread, inside one function or not at all.

``Scope`` comes from the compiled core where there is one, else from the pure-Python core; ``IMPLEMENTATION`` says
which: ``"cython"`` or ``"python"``. The environment variable ``DRAMATIQ_ABORT_EXTENSION`` decides: ``auto`` (the
default) takes the compiled core if it is there, ``0`` never, ``1`` always or raises ``ImportError``.

The compiled core relies on the GIL. On a free-threaded build, importing it would switch the GIL on for the whole
process; with ``PYTHON_GIL=0`` it would crash. So where the GIL is off it is not imported: ``auto`` takes the other one,
and ``1`` raises ``ImportError``.

This package's other modules import from here, but for ``_worker/hooks.py``; these import nothing of dramatiq.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ._core.gil import GIL_IS_ON
from ._core.result import InterruptResult

__all__ = ["IMPLEMENTATION", "SUPPORTED", "InterruptResult", "Scope"]

_switch = os.environ.get("DRAMATIQ_ABORT_EXTENSION", "auto")

if TYPE_CHECKING:
    from ._core.interrupt_py import SUPPORTED, Scope

    IMPLEMENTATION: str
elif _switch == "0" or (_switch == "auto" and not GIL_IS_ON):
    from ._core.interrupt_py import SUPPORTED, Scope

    IMPLEMENTATION = "python"
elif _switch == "1" and not GIL_IS_ON:
    raise ImportError(
        "DRAMATIQ_ABORT_EXTENSION is '1', but the compiled core needs the GIL, and this free-threaded Python runs "
        "without it: set it to 'auto' or '0' to use the pure-Python core, or use a Python with the GIL"
    )
elif _switch == "1":
    from ._interrupt import SUPPORTED, Scope

    IMPLEMENTATION = "cython"
elif _switch == "auto":
    try:
        from ._interrupt import SUPPORTED, Scope

        IMPLEMENTATION = "cython"
    except ImportError:
        from ._core.interrupt_py import SUPPORTED, Scope

        IMPLEMENTATION = "python"
else:
    raise ImportError(
        f"DRAMATIQ_ABORT_EXTENSION is {_switch!r}: set it to 'auto' (the compiled core if it is there), "
        "'0' (never the compiled core) or '1' (an error without it)"
    )
