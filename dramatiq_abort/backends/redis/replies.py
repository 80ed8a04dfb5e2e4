"""The reply store on Redis.

=====================  ==========  ===========================================
``reply:`` and a name  string      a reply, until its time to live ends
replies                stream      the names of the replies of the last minute
workers                sorted set  the registered workers, by their expiry
=====================  ==========  ===========================================

In a cluster, all are in one slot. A wait reads the replies first, and then the stream, from its last id before that.
"""

from __future__ import annotations

import time
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from ..._protocol.reply import MAX_REPLIES, MAX_REPLY
from ..replies import ReplyStore
from .connection import OwnConnection
from .scripts import GET_REPLIES, PUT_REPLIES, WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from ..._protocol.reply import Reply

__all__ = ["RedisReplyStore"]

#: Maximum length of a blocking read of the stream, in ms. After it, the replies are read in any case.
_LONGEST_WAIT: Final = 1000

#: How many seconds after the end of a blocking read the server counts as dead.
_PATIENCE: Final = 2.0


class RedisReplyStore(ReplyStore):
    """Keeps replies on the server of an event backend.

    Parameters:
      client: A client of redis-py.
      namespace: Prefix of all keys.
      ask: Runs a script with keys and arguments.
    """

    def __init__(self, client: Any, namespace: str, ask: Callable[..., Any]) -> None:
        self._client = client
        self._ask = ask
        self._names = f"{{{namespace}}}:replies"
        self._workers = f"{{{namespace}}}:workers"
        self._reply = f"{{{namespace}}}:reply:".encode()

    def put(self, replies: Iterable[Reply]) -> None:
        replies = list(replies)
        keys = [self._reply + reply.name for reply in replies]
        words = [word for reply in replies for word in (reply.text, reply.ttl)]
        names = [word for reply in replies for word in (b"n", reply.name)]
        self._ask((self._names, *keys), PUT_REPLIES, *words, *names)

    def wait(self, names: Collection[bytes], timeout: int) -> dict[bytes, bytes]:
        deadline = time.monotonic() + timeout / 1000
        names = set(names)
        to_read = names
        listener: OwnConnection | None = None
        try:
            while True:
                last_id, found = self._read(list(to_read))
                left = int((deadline - time.monotonic()) * 1000)
                if found or left <= 0:
                    return found
                if listener is None:
                    listener = OwnConnection(self._client, self._names, _LONGEST_WAIT / 1000 + _PATIENCE)
                to_read = self._listen(listener, names, last_id, left) or names
        finally:
            if listener is not None:
                listener.cut()

    def register(self, worker: bytes, ttl: int) -> None:
        self._ask((self._workers,), WORKERS, worker, ttl)

    def unregister(self, worker: bytes) -> None:
        self._ask((self._workers,), WORKERS, worker, -1)

    def workers(self) -> list[bytes]:
        return sorted(self._ask((self._workers,), WORKERS))

    def _read(self, names: list[bytes]) -> tuple[bytes, dict[bytes, bytes]]:
        """Return the last id of the stream, and the replies with these names, read after that."""
        found: dict[bytes, bytes] = {}
        last_id: bytes | None = None
        for start in range(0, len(names), MAX_REPLIES):
            some = names[start : start + MAX_REPLIES]
            newest, replies = self._ask((self._names, *(self._reply + name for name in some)), GET_REPLIES)
            last_id = last_id or newest
            pairs = zip(some, replies, strict=True)
            found |= {name: reply for name, reply in pairs if reply is not None and len(reply) <= MAX_REPLY}
        return last_id or b"0-0", found

    def _listen(self, listener: OwnConnection, names: set[bytes], last_id: bytes, left: int) -> set[bytes]:
        """Return the names of new replies, or an empty set after at most a second."""
        until = time.monotonic() + min(left, _LONGEST_WAIT) / 1000
        while (wait := int((until - time.monotonic()) * 1000)) > 0:
            reply = listener.run("XREAD", "COUNT", 1000, "BLOCK", wait, "STREAMS", self._names, last_id)
            streams = reply.values() if isinstance(reply, dict) else [entries for _, entries in reply or ()]
            written: set[bytes] = set()
            for entry_id, fields in chain.from_iterable(streams):
                last_id = entry_id
                written |= names.intersection(fields[1::2])
            if written:
                return written
        return set()
