"""``python -m dramatiq_abort`` is ``dramatiq-abort``."""

from .cli import main

main()
