"""Run the command line: ``python -m dramatiq_abort`` is the same as ``dramatiq-abort``."""

from .cli import main

main()
