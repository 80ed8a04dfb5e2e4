"""Whether the GIL makes a thread stand still while another thread inspects it."""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["GIL_IS_ON"]

#: Whether the GIL is on and stays on. On a free-threaded build only ``PYTHON_GIL=1`` or ``-X gil=1`` guarantees this:
#: ``sys._is_gil_enabled()`` is also true while an extension is being imported.
GIL_IS_ON: Final = getattr(sys.flags, "gil", 1) == 1
