"""The board of workers' notes on Redis.

====================  ==========  =================================================================
``note:`` and a name  string      a note, for as long as it can be read
bell                  stream      the names of those that were posted in the last minute
workers               sorted set  the roll: the workers, by the time at which they are off it
====================  ==========  =================================================================

All in one slot of a cluster. Who waits looks first, and then listens to the bell from where it was when he looked.
"""

from __future__ import annotations

import hashlib
import time
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from ..replies import MAX_REPLIES, MAX_REPLY, ReplyStore
from .connection import OwnConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from ..replies import Reply

__all__ = ["RedisReplyStore"]

#: For how long one wait for the bell lasts at the most, in ms. Then, whatever it has said, the notes are looked at.
_LONGEST_WAIT: Final = 1000

#: How much longer than the server waits for the bell, in seconds, before it counts as dead.
_PATIENCE: Final = 2.0


class _Script:
    def __init__(self, lua: str) -> None:
        self.lua: Final = lua
        self.sha: Final = hashlib.sha1(lua.encode(), usedforsecurity=False).hexdigest()


#: bell, notes; then text and time to live of each note.
_POST: Final = _Script("""
for i = 2, #KEYS do
    redis.call('SET', KEYS[i], ARGV[2 * i - 3], 'PX', ARGV[2 * i - 2])
end
local found = redis.call('TYPE', KEYS[1]).ok
if found ~= 'stream' and found ~= 'none' then
    redis.call('DEL', KEYS[1])
end
local id = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', 1000, '*', unpack(ARGV, 2 * #KEYS - 1))
if type(id) == 'table' then  -- somebody has put the last id there that there is
    redis.call('DEL', KEYS[1])
    redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2 * #KEYS - 1))
end
redis.call('PEXPIRE', KEYS[1], 60000)
""")

#: bell, notes. Returns the last id of the bell, and the notes.
_LOOK: Final = _Script("""
local last = redis.call('TYPE', KEYS[1]).ok == 'stream' and redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1) or {}
local notes = {}
for i = 2, #KEYS do
    notes[i - 1] = redis.call('TYPE', KEYS[i]).ok == 'string' and redis.call('GET', KEYS[i])
end
return {last[1] and last[1][1] or '0-0', notes}
""")

#: workers; then a worker and for how many milliseconds he is there, or nothing. Returns the roll.
_ROLL: Final = _Script("""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = redis.call('TYPE', KEYS[1]).ok
if found ~= 'zset' and found ~= 'none' then
    redis.call('DEL', KEYS[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if #ARGV > 0 then
    redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
    redis.call('PEXPIRE', KEYS[1], math.max(ARGV[2], redis.call('PTTL', KEYS[1])))
    return {}
end
return redis.call('ZRANGE', KEYS[1], 0, 9999)
""")


class RedisReplyStore(ReplyStore):
    """Notes on the server of an event backend.

    Parameters:
      client: A client of redis-py.
      namespace: The first part of all keys.
      ask: Runs a script with keys and words.
    """

    def __init__(self, client: Any, namespace: str, ask: Callable[..., Any]) -> None:
        self._client = client
        self._ask = ask
        self._bell = f"{{{namespace}}}:bell"
        self._workers = f"{{{namespace}}}:workers"
        self._note = f"{{{namespace}}}:note:".encode()

    def put(self, replies: Iterable[Reply]) -> None:
        replies = list(replies)
        keys = [self._note + reply.name for reply in replies]
        words = [word for reply in replies for word in (reply.text, reply.ttl)]
        names = [word for reply in replies for word in (b"n", reply.name)]
        self._ask((self._bell, *keys), _POST, *words, *names)

    def wait(self, names: Collection[bytes], timeout: int) -> dict[bytes, bytes]:
        deadline = time.monotonic() + timeout / 1000
        names = set(names)
        rung = names
        listener: OwnConnection | None = None
        try:
            while True:
                last_id, found = self._look(list(rung))
                left = int((deadline - time.monotonic()) * 1000)
                if found or left <= 0:
                    return found
                if listener is None:
                    listener = OwnConnection(self._client, self._bell, _LONGEST_WAIT / 1000 + _PATIENCE)
                rung = self._listen(listener, names, last_id, left) or names
        finally:
            if listener is not None:
                listener.cut()

    def register(self, worker: bytes, ttl: int) -> None:
        self._ask((self._workers,), _ROLL, worker, ttl)

    def unregister(self, worker: bytes) -> None:
        self._ask((self._workers,), _ROLL, worker, -1)

    def workers(self) -> list[bytes]:
        return sorted(self._ask((self._workers,), _ROLL))

    def _look(self, names: list[bytes]) -> tuple[bytes, dict[bytes, bytes]]:
        """Return the notes of these names, and the last id of the bell before that."""
        found: dict[bytes, bytes] = {}
        last_id: bytes | None = None
        for start in range(0, len(names), MAX_REPLIES):
            some = names[start : start + MAX_REPLIES]
            newest, replies = self._ask((self._bell, *(self._note + name for name in some)), _LOOK)
            last_id = last_id or newest
            pairs = zip(some, replies, strict=True)
            found |= {name: reply for name, reply in pairs if reply is not None and len(reply) <= MAX_REPLY}
        return last_id or b"0-0", found

    def _listen(self, listener: OwnConnection, names: set[bytes], last_id: bytes, left: int) -> set[bytes]:
        """Return those of the names that have been called, or none after some time."""
        until = time.monotonic() + min(left, _LONGEST_WAIT) / 1000
        while (wait := int((until - time.monotonic()) * 1000)) > 0:
            reply = listener.run("XREAD", "COUNT", 1000, "BLOCK", wait, "STREAMS", self._bell, last_id)
            streams = reply.values() if isinstance(reply, dict) else [entries for _, entries in reply or ()]
            called: set[bytes] = set()
            for entry_id, fields in chain.from_iterable(streams):
                last_id = entry_id
                called |= names.intersection(fields[1::2])
            if called:
                return called
        return set()
