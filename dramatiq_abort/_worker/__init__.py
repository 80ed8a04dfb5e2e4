"""Modules that only a worker process imports."""
