"""An event backend on Redis, Valkey, and what speaks like them."""

from .backend import RedisBackend

__all__ = ["RedisBackend"]
