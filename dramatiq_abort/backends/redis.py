"""An event backend on Redis, Valkey, and what speaks like them."""

from __future__ import annotations

import time
from functools import partial
from inspect import iscoroutinefunction
from itertools import chain, islice
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import redis
from dramatiq.logging import get_logger
from redis.client import NEVER_DECODE
from redis.exceptions import NoScriptError

from .._tombstones import Tombstone, Tombstones, now
from ..backend import Event, EventBackend
from ._connection import OwnConnection
from ._scripts import LOOK_UP, PAGE, REVOKE, SIGNAL, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

__all__ = ["RedisBackend"]

#: For how long the log is kept, in ms. A reader that was away for longer takes the whole index again, as does each
#: that comes back from a lost connection.
_RETENTION: Final = 60_000

#: The longest wait for one answer, in ms: an idle worker sends two commands a second.
_LONGEST_WAIT: Final = 500

#: How much longer than the server waits for an entry, in ms, before it counts as dead.
_PATIENCE: Final = 1000

#: How long a message may be held up by the question whether it is to start, in ms, when the mirror is not fresh.
_PATIENCE_OF_MESSAGES: Final = 100

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
        self._mirror: Final = Tombstones()
        self._reading: Final = Lock()
        self._reader: OwnConnection | None = None
        self._last_id = b"0-0"
        self._fresh_until = 0.0
        # Whether somebody calls wait_many, and whether the server is known not to answer.
        self._is_followed = False
        self._is_lost = False
        self._asking: Final = Lock()
        self._asker: OwnConnection | None = None

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
            words = [word for event in step for word in (event.key, event.value, event.ttl, event.priority)]
            server_now, *tombstones = self._run(SIGNAL, _RETENTION, *words)
            # What this process asks for itself, its mirror knows before its own connection brings it back.
            if self._is_followed:
                for event, (value, end) in zip(step, tombstones, strict=True):
                    self._mirror.add(event.key, _tombstone(value, end, server_now))

    def poll(self, key: bytes) -> bool:
        if not self._is_followed:
            return self._run(LOOK_UP, key) is not None
        # While the server does not answer, asking it would only make the message wait: what the mirror does not know is
        # handed out when the server is back. One thread that asks is enough to find that out.
        if self._is_lost or time.monotonic() < self._fresh_until or not self._asking.acquire(blocking=False):
            return self._mirror.get(key) is not None
        try:
            if self._asker is None or not self._asker.is_ours:
                self._asker = OwnConnection(self.client, self._keys[0], _PATIENCE_OF_MESSAGES)
            return self._run(LOOK_UP, key, on=self._asker.run) is not None
        except Exception:
            self._is_lost = True
            raise
        finally:
            self._asking.release()

    def read(self, key: bytes) -> Event | None:
        tombstone = self._mirror.get(key) if self._is_followed else None
        if tombstone is not None:
            return Event(key, tombstone.value, max(0, int(tombstone.expiry - now())))
        found = self._run(LOOK_UP, key)
        return None if found is None else Event(key, found[1], int(found[0]))

    def revoke(self, key: bytes) -> bool:
        return bool(self._run(REVOKE, _RETENTION, key))

    def wait_many(self, keys: Collection[bytes], timeout: int) -> bytes | None:
        deadline = time.monotonic() + timeout / 1000
        with self._reading:
            if not self._is_followed:
                self._is_lost = True  # until it is known to answer
                self._is_followed = True
            while True:
                key = self._mirror.hand_out(keys)
                if key is not None:
                    return key
                left = int((deadline - time.monotonic()) * 1000)
                self._follow(min(left, _LONGEST_WAIT))
                if left <= 0 or not self._is_followed:
                    return self._mirror.hand_out(keys)

    def wake(self) -> None:
        self._is_followed = False
        reader = self._reader
        if reader is not None:
            reader.cut()

    def _follow(self, wait: int) -> None:
        """Bring the mirror up to date, and if it is, wait for the next change."""
        try:
            if self._reader is None or not self._reader.is_ours:
                self._reader = OwnConnection(self.client, self._keys[2], _LONGEST_WAIT + _PATIENCE)
                self._is_lost = True
            if self._is_lost or time.monotonic() > self._fresh_until + _RETENTION / 2000:
                self._take_index(self._reader)
                wait = 0  # what was signaled meanwhile is in the log
            self._read_log(self._reader, wait)
        except Exception:
            if self._is_followed:
                self._is_lost = True
                self._reader = None  # of a cluster, another node may have the log by now
                raise
        else:
            self._is_lost = False
            self._fresh_until = time.monotonic() + _FRESH / 1000

    def _take_index(self, reader: OwnConnection) -> None:
        """Take the whole index into the mirror, and go on in the log from where it stood before that."""
        tombstones: dict[bytes, Tombstone] = {}
        last_id: bytes | None = None
        cursor = b"0"
        while last_id is None or cursor != b"0":
            server_now, newest, cursor, found, values = self._run(PAGE, cursor, _STEP, on=reader.run)
            last_id = last_id or newest
            for key, end, value in zip(found[::2], found[1::2], values, strict=True):
                tombstones[key] = _tombstone(value or b"", int(end), server_now)
        self._last_id = last_id
        self._mirror.replace(tombstones)

    def _read_log(self, reader: OwnConnection, wait: int) -> None:
        """Take what has been added to the log into the mirror; if that is nothing, wait for it."""
        # A wait of 0 would be for ever.
        reply = reader.run("XREAD", "COUNT", _STEP, "BLOCK", max(1, wait), "STREAMS", self._keys[2], self._last_id)
        streams = reply.values() if isinstance(reply, dict) else [entries for _, entries in reply or ()]  # RESP 3 and 2
        for entry_id, fields in chain.from_iterable(streams):
            self._last_id = entry_id
            self._apply(dict(zip(fields[::2], fields[1::2], strict=True)))

    def _apply(self, fields: dict[bytes, bytes]) -> None:
        try:
            key, value, end, server_now = fields[b"k"], fields[b"v"], int(fields[b"e"]), int(fields[b"n"])
        except (KeyError, ValueError):
            self._logger.warning("An entry in %r is none of ours and is ignored: %.200r.", self._keys[2], fields)
            return
        if end:
            self._mirror.add(key, _tombstone(value, end, server_now))
        else:
            self._mirror.discard(key)

    def _run(self, script: Script, *words: Any, on: Callable[..., Any] | None = None) -> Any:
        run = on or partial(self.client.execute_command, **{NEVER_DECODE: True})
        words = (len(self._keys), *self._keys, *words)
        try:
            return run("EVALSHA", script.sha, *words)
        except NoScriptError:
            return run("EVAL", script.lua, *words)


def _tombstone(value: bytes, end: int, server_now: int) -> Tombstone:
    """Make one of what the server says. What is left of its time is counted from now, so the two clocks never meet."""
    return Tombstone(value, now() + (end - server_now), stamp=end)
