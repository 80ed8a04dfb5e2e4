"""The command line, ``dramatiq-abort``. It needs what the extra ``cli`` brings; the rest of the package does not."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Do what the command line says, and exit with how it went: see docs/cli.md."""
    try:
        from ._main import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"click", "rich"}:
            raise
        print("error: the command line needs more: pip install 'dramatiq-abort[cli]'", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run())
