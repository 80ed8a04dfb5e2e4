"""A connection that waits for the next entries of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from redis.backoff import NoBackoff
from redis.client import NEVER_DECODE
from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LogReader"]

#: How much longer than the server waits for an answer, in ms, before the connection counts as dead.
_PATIENCE: Final = 1000

#: How many entries come in one answer, at the most.
_COUNT: Final = 1000


class LogReader:
    """A connection of its own, taken from the client's pool, that fails at once when it is cut.

    The pool's own settings will not do: a client that tries again by itself would hide that it is talking to another
    server by now, whose log may be another one; and its time-out may be shorter than the wait, or none, which would
    wait for a dead server for ever.

    Parameters:
      client: A client of redis-py, for one server or for a cluster.
      log: The stream's key.
      longest_wait: The most milliseconds that ``read`` will be asked to wait.
    """

    def __init__(self, client: Any, log: str, longest_wait: int) -> None:
        if hasattr(client, "get_node_from_key"):  # a cluster: the log's node
            client = client.get_redis_connection(client.get_node_from_key(log))
        self._log = log
        self._client = client.client()
        self._connection = self._client.connection
        self._as_it_was = self._connection.retry, self._connection.socket_timeout
        self._connection.disconnect()  # the time-out is taken over when it connects
        self._connection.retry = Retry(NoBackoff(), 0)
        self._connection.socket_timeout = (longest_wait + _PATIENCE) / 1000

    def read(self, last_id: bytes, wait: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Return the entries after ``last_id``, oldest first; if there are none, wait for them.

        Parameters:
          last_id: The id of the last entry that is known.
          wait: For how many milliseconds to wait at the most; at least 1, since 0 is for ever.
        """
        words = ("XREAD", "COUNT", _COUNT, "BLOCK", max(1, wait), "STREAMS", self._log, last_id)
        return list(_entries(self._client.execute_command(*words, **{NEVER_DECODE: True})))

    def cut(self) -> None:
        """Let a ``read`` that is under way in another thread fail at once."""
        self._connection.disconnect()

    def close(self) -> None:
        """Give the connection back to the pool, unconnected and as it was."""
        self._connection.disconnect()
        self._connection.retry, self._connection.socket_timeout = self._as_it_was
        self._client.close()


def _entries(reply: Any) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    """Find the entries in an answer: its shape depends on the protocol and on redis-py's version."""
    if isinstance(reply, tuple):
        yield reply
    elif isinstance(reply, (list, dict)):
        for part in reply.values() if isinstance(reply, dict) else reply:
            yield from _entries(part)
