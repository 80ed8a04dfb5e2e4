"""A connection to Redis of one's own."""

from __future__ import annotations

import os
from typing import Any

from redis.backoff import NoBackoff
from redis.retry import Retry

__all__ = ["OwnConnection"]


class OwnConnection:
    """A connection beside the client's pool, that fails at once when it is cut, and soon when nobody answers.

    The pool's own will not do: a client that tries again by itself would hide that it is talking to another server by
    now, whose log may be another one; and its time-out may be shorter than the wait for an entry, or none at all, which
    would wait for a dead server for ever.

    Parameters:
      client: A client of redis-py, for one server or for a cluster.
      key: The key that it is for: in a cluster, the connection goes to this key's node.
      patience: After how many milliseconds without an answer the connection counts as dead.
    """

    def __init__(self, client: Any, key: str, patience: int) -> None:
        if hasattr(client, "get_node_from_key"):  # a cluster
            client = client.get_redis_connection(client.get_node_from_key(key))
        pool = client.connection_pool
        self._connection = pool.connection_class(**pool.connection_kwargs)
        self._connection.retry = Retry(NoBackoff(), 0)
        self._connection.socket_timeout = patience / 1000
        if hasattr(self._connection, "socket_connect_timeout"):
            self._connection.socket_connect_timeout = patience / 1000
        self._pid = os.getpid()

    @property
    def is_ours(self) -> bool:
        """Whether this is still the process that made it: after a fork two processes would share one connection."""
        return self._pid == os.getpid()

    def run(self, *words: Any) -> Any:
        """Send a command, connecting if need be, and return the answer as it comes, in bytes."""
        try:
            self._connection.send_command(*words)
            return self._connection.read_response(disable_decoding=True)
        except BaseException:
            self._connection.disconnect()  # or the next answer would be this one's
            raise

    def cut(self) -> None:
        """Disconnect; a command that is under way in another thread fails at once."""
        self._connection.disconnect()
