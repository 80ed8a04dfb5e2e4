"""An event backend on Redis, Valkey, and compatible servers."""

from .backend import RedisBackend

__all__ = ["RedisBackend"]
