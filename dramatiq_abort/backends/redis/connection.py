"""Connections to Redis outside the client's pool."""

from __future__ import annotations

import copy
import os
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Connections", "OwnConnection", "is_cluster", "reload_nodes"]

#: Timeout in seconds for clients that have none.
_TIMEOUT: Final = 5.0

#: Maximum number of idle connections kept for reuse.
_KEPT: Final = 4

#: Errors that a new connection may avoid: the server was restarted, or another one has become the primary.
_MENDABLE: Final = (RedisConnectionError, RedisTimeoutError, ReadOnlyError)


def is_cluster(client: Any) -> bool:
    """Return whether a client is for a cluster."""
    return hasattr(client, "get_node_from_key")


def reload_nodes(client: Any) -> None:
    """Make a cluster's client ask again which node has which keys.

    By itself, it does so only when one of its own commands fails.
    """
    if is_cluster(client):
        client.nodes_manager.initialize()


class OwnConnection:
    """A connection outside the client's pool that fails at once when it is cut, and soon when the server is silent.

    The pool's connections are unsuitable for two reasons. A client that retries by itself would hide a switch to
    another server, which may have another log, and may take minutes to give up. And its timeout may be shorter than the
    wait for a log entry, or missing, so that it would wait for a dead server indefinitely.

    Parameters:
      client: A client of redis-py, for one server or for a cluster.
      key: In a cluster, the connection goes to the node of this key.
      patience: After how many seconds without a reply the connection counts as dead.
    """

    def __init__(self, client: Any, key: str, patience: float) -> None:
        if is_cluster(client):
            client = client.get_redis_connection(client.get_node_from_key(key))
        impatient = _impatient(patience)
        pool = client.connection_pool
        parameters = pool.connection_kwargs
        if hasattr(pool, "sentinel_manager"):
            parameters = parameters | {"connection_pool": _asking_once(pool.proxy, impatient)}
        self._connection = pool.connection_class(**parameters)
        for name, value in impatient.items():
            if hasattr(self._connection, name):  # connections to Unix sockets have no connect timeout
                setattr(self._connection, name, value)
        self._pid = os.getpid()

    @property
    def is_ours(self) -> bool:
        """Whether this process created the connection: after a fork, two processes would share it."""
        return self._pid == os.getpid()

    def run(self, *words: Any) -> Any:
        """Send a command, connecting first if necessary, and return the reply undecoded, as bytes."""
        try:
            self._connection.connect()  # send_command() would connect, too, but without asking a Sentinel
            self._connection.send_command(*words)
            return self._connection.read_response(disable_decoding=True)
        except NoScriptError:
            raise
        except BaseException:
            self._connection.disconnect()  # otherwise, the next command would read this reply
            raise

    def cut(self) -> None:
        """Disconnect. A command in progress in another thread fails at once."""
        self._connection.disconnect()


class Connections:
    """A small pool of own connections. Each is used by one thread at a time, and kept for reuse.

    Parameters:
      client: As for ``OwnConnection``. Its timeout is the limit for a whole ``use()``, including the second attempt.
      key: As for ``OwnConnection``.
    """

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._key = key
        self._patience = (client.connection_pool.connection_kwargs.get("socket_timeout") or _TIMEOUT) / 2
        self._kept: deque[OwnConnection] = deque(maxlen=_KEPT)

    def use(self, ask: Callable[[OwnConnection], Any]) -> Any:
        """Call ``ask`` with a connection, and return its result. If a kept connection fails, try again with a new one.

        A kept connection may have died without notice, so each attempt gets half of the timeout.
        """
        try:
            kept = self._kept.pop()
        except IndexError:
            kept = None
        if kept is not None and kept.is_ours:
            try:
                return self._use(kept, ask)
            except _MENDABLE:
                self._kept.clear()  # the others are likely to be dead, too
        return self._use(OwnConnection(self._client, self._key, self._patience), ask)

    def _use(self, connection: OwnConnection, ask: Callable[[OwnConnection], Any]) -> Any:
        answer = ask(connection)
        self._kept.append(connection)
        return answer


def _impatient(patience: float) -> dict[str, Any]:
    return {"socket_timeout": patience, "socket_connect_timeout": patience, "retry": Retry(NoBackoff(), 0)}


def _asking_once(proxy: Any, impatient: dict[str, Any]) -> Any:
    """Return a copy of a Sentinel pool's proxy that does not retry Sentinels that are dead."""
    proxy = copy.copy(proxy)
    proxy.sentinel_manager = copy.copy(proxy.sentinel_manager)
    proxy.sentinel_manager.sentinels = [
        Redis(
            connection_pool=ConnectionPool(
                sentinel.connection_pool.connection_class, **(sentinel.connection_pool.connection_kwargs | impatient)
            )
        )
        for sentinel in proxy.sentinel_manager.sentinels
    ]
    return proxy
