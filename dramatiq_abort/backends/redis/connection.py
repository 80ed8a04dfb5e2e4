"""Connections to Redis of one's own."""

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

__all__ = ["Connections", "OwnConnection", "find_anew", "is_cluster"]

#: For how long a client without a time-out of its own waits for an answer, in seconds.
_TIMEOUT: Final = 5.0

#: How many connections are kept for the next who asks.
_KEPT: Final = 4

#: What a new connection may mend: the server has been restarted, or is another one by now.
_MENDABLE: Final = (RedisConnectionError, RedisTimeoutError, ReadOnlyError)


def is_cluster(client: Any) -> bool:
    """Say whether this is a client for a cluster."""
    return hasattr(client, "get_node_from_key")


def find_anew(client: Any) -> None:
    """Let a cluster's client ask which node has which keys: by itself it does so when a command of its own fails."""
    if is_cluster(client):
        client.nodes_manager.initialize()


class OwnConnection:
    """A connection beside the client's pool, that fails at once when it is cut, and soon when nobody answers.

    The pool's own will not do: a client that tries again by itself would hide that it is talking to another server by
    now, whose log may be another one, and may take minutes to give up; and its time-out may be shorter than the wait
    for an entry, or none at all, which would wait for a dead server for ever.

    Parameters:
      client: A client of redis-py, for one server or for a cluster.
      key: The key that it is for: in a cluster, the connection goes to this key's node.
      patience: After how many seconds without an answer the connection counts as dead.
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
            if hasattr(self._connection, name):  # a Unix socket has no time-out for connecting
                setattr(self._connection, name, value)
        self._pid = os.getpid()

    @property
    def is_ours(self) -> bool:
        """Whether this is still the process that made it: after a fork two processes would share one connection."""
        return self._pid == os.getpid()

    def run(self, *words: Any) -> Any:
        """Send a command, connecting if need be, and return the answer as it comes, in bytes."""
        try:
            self._connection.connect()  # to send would connect, too, but without asking a Sentinel
            self._connection.send_command(*words)
            return self._connection.read_response(disable_decoding=True)
        except NoScriptError:
            raise
        except BaseException:
            self._connection.disconnect()  # or the next answer would be this one's
            raise

    def cut(self) -> None:
        """Disconnect; a command that is under way in another thread fails at once."""
        self._connection.disconnect()


class Connections:
    """Own connections for whoever asks, each for one at a time, and kept for the next.

    Parameters:
      client: See ``OwnConnection``. How long it waits for an answer is how long it may take here altogether.
      key: See there.
    """

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._key = key
        self._patience = (client.connection_pool.connection_kwargs.get("socket_timeout") or _TIMEOUT) / 2
        self._kept: deque[OwnConnection] = deque(maxlen=_KEPT)

    def use(self, ask: Callable[[OwnConnection], Any]) -> Any:
        """Return what ``ask`` makes of a connection; it is called twice, with a new one, where the first was dead.

        One that was kept may have died since without a word, so each has half of the time.
        """
        try:
            kept = self._kept.pop()
        except IndexError:
            kept = None
        if kept is not None and kept.is_ours:
            try:
                return self._use(kept, ask)
            except _MENDABLE:
                self._kept.clear()  # the others will hardly be better
        return self._use(OwnConnection(self._client, self._key, self._patience), ask)

    def _use(self, connection: OwnConnection, ask: Callable[[OwnConnection], Any]) -> Any:
        answer = ask(connection)
        self._kept.append(connection)
        return answer


def _impatient(patience: float) -> dict[str, Any]:
    return {"socket_timeout": patience, "socket_connect_timeout": patience, "retry": Retry(NoBackoff(), 0)}


def _asking_once(proxy: Any, impatient: dict[str, Any]) -> Any:
    """Make a Sentinel pool's proxy find the primary as before, but without asking a dead Sentinel again and again."""
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
