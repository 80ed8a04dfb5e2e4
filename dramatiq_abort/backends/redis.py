"""An event backend on Redis, Valkey, and what speaks like them."""

from __future__ import annotations

import time
from inspect import iscoroutinefunction
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import redis
from dramatiq.logging import get_logger
from redis.client import NEVER_DECODE
from redis.exceptions import NoScriptError

from .._tombstones import Tombstones
from ..backend import Event, EventBackend
from ._log_reader import LogReader
from ._scripts import LOOK_UP, PAGE, REVOKE, SIGNAL, Script

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["RedisBackend"]

#: For how long the log is kept, in ms. A reader that was away for longer takes the whole index again, as does each
#: that comes back from a lost connection.
_RETENTION: Final = 60_000

#: The longest wait for one answer, in ms: an idle worker sends two commands a second.
_LONGEST_WAIT: Final = 500

#: For how long after an answer the mirror is trusted, in ms: what was signaled later than that is not in it.
_FRESH: Final = _LONGEST_WAIT + 500

#: How many tombstones one step in Redis reads, and how many events one writes: a few ms of the server's time.
_STEP: Final = 1000


class RedisBackend(EventBackend):
    """Carries events over Redis 6.2 or later, or Valkey, to any number of worker processes.

    A request is one round trip and one atomic step. A worker process keeps one connection on which it hears of every
    request, and a mirror of those that are live; ``poll`` answers from it, without a round trip, while it is fresh.

    Parameters:
      client: A client of redis-py, for one server, Sentinel's or a cluster's; not an asyncio one. Without it, the
        server on this machine's port 6379.
      namespace: The first part of all keys. Clients and workers must agree on it.

    Raises:
      TypeError: When ``client`` is no client of redis-py, or an asyncio one.
      ValueError: When ``namespace`` is empty or has braces in it.
    """

    hears_all = True

    def __init__(self, *, client: Any = None, namespace: str = "dramatiq-abort") -> None:
        if client is None:
            client = redis.Redis(socket_timeout=5, socket_connect_timeout=5)
        if not hasattr(client, "execute_command") or iscoroutinefunction(client.execute_command):
            raise TypeError(f"a client of redis-py that is not an asyncio one is needed, not {client!r}")
        if not isinstance(namespace, str) or not namespace or set(namespace) & set("{}"):
            raise ValueError(f"a namespace is some text without braces, not {namespace!r}")
        self._logger: Final = get_logger(__name__, type(self))
        self.client: Final = client
        # The braces put the keys into one slot of a cluster.
        self._keys: Final = tuple(f"{{{namespace}}}:{name}" for name in ("index", "values", "log"))
        self._reading: Final = Lock()
        self._reader: LogReader | None = None
        self._last_id = b"0-0"
        self._clock_difference = 0.0
        self._mirror: Final = Tombstones(self._server_now)
        self._fresh_until = 0.0
        self._lost = False
        self._woken = False

    @classmethod
    def from_url(cls, url: str, *, namespace: str = "dramatiq-abort", **parameters: Any) -> RedisBackend:
        """Make a backend from a URL such as ``redis://user:password@host:6379/0``.

        Parameters:
          url: As ``redis.Redis.from_url`` takes it: ``redis://``, ``rediss://`` or ``unix://``.
          namespace: See the class.
          **parameters: For the client. Unless they or the URL say otherwise, it waits 5 seconds for an answer.

        Raises:
          ValueError: When the URL is none that redis-py understands.
        """
        parameters = {"socket_timeout": 5, "socket_connect_timeout": 5} | parameters
        return cls(client=redis.Redis.from_url(url, **parameters), namespace=namespace)

    def notify(self, key: bytes, ttl: int, value: bytes = b"") -> None:
        self.signal([Event(key, value, ttl)])

    def signal(self, events: Iterable[Event]) -> None:
        remaining = iter(events)
        while step := list(islice(remaining, _STEP)):
            words = [word for event in step for word in (event.key, event.value, event.ttl)]
            ends = self._run(SIGNAL, _RETENTION, *words)
            # What this process asks for itself, its mirror knows before its own connection brings it back.
            if self._reader is not None:
                for event, end in zip(step, ends, strict=True):
                    self._mirror.add(event.key, event.value, end)

    def poll(self, key: bytes) -> bool:
        # While the connection is lost, asking would only make the message wait: what the mirror does not know is
        # handed out when the connection is back.
        if self._lost or time.monotonic() < self._fresh_until:
            return self._mirror.get(key) is not None
        return self._run(LOOK_UP, key) is not None

    def read(self, key: bytes) -> Event | None:
        tombstone = self._mirror.get(key)
        if tombstone is not None:
            value, expiry = tombstone
            return Event(key, value, max(0, int(expiry - self._server_now())))
        if self._lost:
            return None
        found = self._run(LOOK_UP, key)
        return None if found is None else Event(key, found[1], int(found[0]))

    def revoke(self, key: bytes) -> bool:
        return bool(self._run(REVOKE, _RETENTION, key))

    def wait_many(self, keys: Collection[bytes], timeout: int) -> bytes | None:
        deadline = time.monotonic() + timeout / 1000
        with self._reading:
            while True:
                key = self._mirror.hand_out(keys)
                if key is not None:
                    return key
                left = int((deadline - time.monotonic()) * 1000)
                self._follow(min(left, _LONGEST_WAIT))
                if left <= 0 or self._woken:
                    self._woken = False
                    return self._mirror.hand_out(keys)

    def wake(self) -> None:
        self._woken = True
        reader = self._reader
        if reader is not None:
            reader.cut()

    def _follow(self, wait: int) -> None:
        """Bring the mirror up to date, and if it is, wait for the next change."""
        try:
            reader = self._reader
            if reader is None or time.monotonic() > self._fresh_until + _RETENTION / 2000:
                reader, wait = self._connect(), 0  # what was signaled meanwhile is in the log
            for entry_id, fields in reader.read(self._last_id, wait):
                self._last_id = entry_id
                self._apply(fields)
        except Exception:
            self._disconnect()
            if self._woken:
                return
            self._lost = True
            raise
        self._lost = False
        self._fresh_until = time.monotonic() + _FRESH / 1000

    def _apply(self, fields: dict[bytes, bytes]) -> None:
        try:
            key, value, expiry = fields[b"k"], fields[b"v"], int(fields[b"e"])
        except (KeyError, ValueError):
            self._logger.warning("An entry in %r is none of ours and is ignored: %.200r.", self._keys[2], fields)
            return
        if expiry:
            self._mirror.add(key, value, expiry)
        else:
            self._mirror.discard(key)

    def _connect(self) -> LogReader:
        """Take the whole index into the mirror, and follow the log from where it stood before that."""
        self._disconnect()
        tombstones: dict[bytes, tuple[bytes, float]] = {}
        last_id: bytes | None = None
        cursor = b"0"
        while last_id is None or cursor != b"0":
            now, newest, cursor, found, values = self._run(PAGE, cursor, _STEP)
            self._clock_difference = now - time.monotonic() * 1000
            last_id = last_id or newest
            for key, expiry, value in zip(found[::2], found[1::2], values, strict=True):
                tombstones[key] = value or b"", float(expiry)
        self._last_id = last_id
        self._mirror.replace(tombstones)
        self._reader = LogReader(self.client, self._keys[2], _LONGEST_WAIT)
        return self._reader

    def _disconnect(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _server_now(self) -> float:
        return time.monotonic() * 1000 + self._clock_difference

    def _run(self, script: Script, *words: Any) -> Any:
        words = (len(self._keys), *self._keys, *words)
        try:
            return self.client.execute_command("EVALSHA", script.sha, *words, **{NEVER_DECODE: True})
        except NoScriptError:
            return self.client.execute_command("EVAL", script.lua, *words, **{NEVER_DECODE: True})
