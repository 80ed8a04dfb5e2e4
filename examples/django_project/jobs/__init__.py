"""Jobs that somebody may want to stop."""
