"""The command line, ``dramatiq-abort``. It needs the extra ``cli``; the rest of the package does not."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line, and exit with its status: see docs/cli.md."""
    try:
        from ._main import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"click", "rich"}:
            raise
        print("error: the command line needs an extra: pip install 'dramatiq-abort[cli]'", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run())
