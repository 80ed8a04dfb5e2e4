"""The interrupt core: raises an exception from another thread inside one function, or not at all.

``Scope`` comes from the compiled core if it is installed, else from the pure-Python core. ``IMPLEMENTATION`` names the
core in use: ``"cython"`` or ``"python"``. The environment variable ``DRAMATIQ_ABORT_EXTENSION`` selects it: ``auto``
(the default) uses the compiled core if it is installed, ``0`` uses the pure-Python core, and ``1`` uses the compiled
core or raises ``ImportError``.

The compiled core relies on the GIL. On a free-threaded build, importing it would switch the GIL on for the whole
process; with ``PYTHON_GIL=0`` it would crash. So it is not imported where the GIL is off: ``auto`` uses the pure-Python
core there, and ``1`` raises ``ImportError``.

The other modules of the package import from here, except ``_worker/hooks.py``. The core imports nothing of dramatiq.
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
        "without it: set the variable to 'auto' or '0' to use the pure-Python core, or use a Python with the GIL"
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
        "DRAMATIQ_ABORT_EXTENSION must be 'auto' (use the compiled core if it is installed), '0' (never use it) or '1' "
        f"(fail without it), not {_switch!r}"
    )
