"""Functions for tasks: checkpoints, shields and abortable subprocesses."""
