"""Functions for callers: aborting, restoring, waiting for outcomes, and listing running messages."""
