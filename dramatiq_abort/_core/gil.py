"""Whether a thread stands still while another one looks at it, as it does under the GIL."""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["GIL_IS_ON"]

#: Whether the GIL is on and stays on. On a free-threaded build only ``PYTHON_GIL=1`` or ``-X gil=1`` promises that:
#: ``sys._is_gil_enabled()`` is also true for the moment in which an extension is imported.
GIL_IS_ON: Final = getattr(sys.flags, "gil", 1) == 1
