"""An event backend on Redis, Valkey, and compatible servers."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from functools import partial
from inspect import iscoroutinefunction
from itertools import chain, groupby, islice
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import redis
from dramatiq.logging import get_logger
from redis.client import NEVER_DECODE
from redis.exceptions import NoScriptError, RedisError

from ..._protocol.event import BROADCAST_PREFIX, MAX_EVENTS, Event
from ..base import EventBackend
from ..rate_limited_log import RateLimitedLog
from ..tombstones import Tombstone, Tombstones, event_of
from .connection import Connections, OwnConnection, is_cluster, reload_nodes
from .decoding import position, read_entry, read_tombstone, tombstone_of
from .replies import RedisReplyStore
from .scripts import LATEST, LOOK_UP, PAGE, REVOKE, SIGNAL, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from ..replies import ReplyStore

__all__ = ["RedisBackend"]

#: How long log entries are kept, in ms. A reader disconnected for longer than half of that reads only the index.
_RETENTION: Final = 60_000

#: Maximum wait for one reply, in ms: an idle worker sends fewer than two commands a second in total.
_LONGEST_WAIT: Final = 550

#: How many ms after the end of a blocking read the server counts as dead.
_PATIENCE: Final = 750

#: How long a starting message may wait for the query that is needed if the mirror is not fresh, in ms.
_PATIENCE_OF_MESSAGES: Final = 100

#: Maximum age of a fresh mirror, in ms: events signaled longer ago than that are in it.
_FRESH: Final = 1000

#: Maximum number of tombstones and of log entries read in one step: a few ms of the server's time.
_PAGE: Final = 100
_ENTRIES: Final = 100

#: Maximum number of tombstones in the mirror. If there are more, each message queries the server.
_MOST: Final = 200_000

#: Maximum number of broadcasts in the mirror. If there are more, the oldest count as revoked.
_MAX_BROADCASTS: Final = 1000


class RedisBackend(EventBackend):
    """Carries events over Redis 6.2 or later, or Valkey, to any number of worker processes.

    An abort request is one round trip and one atomic step. A worker process keeps one connection, on which it receives
    every event, and a mirror: a copy of the live events in memory. While the mirror is fresh, it answers queries
    without a round trip.

    Parameters:
      client: A client of redis-py for a single server, Sentinel or a cluster; not an asyncio client. Defaults to one
        for port 6379 of this machine.
      namespace: Prefix of all keys. Callers and workers must use the same one.

    Raises:
      TypeError: If ``client`` is not a client of redis-py, or is an asyncio client.
      ValueError: If ``namespace`` is empty or contains braces.
    """

    receives_all = True
    supports_broadcast = True

    def __init__(self, *, client: Any = None, namespace: str = "dramatiq-abort") -> None:
        if client is None:
            client = redis.Redis(socket_timeout=5, socket_connect_timeout=5)
        if not hasattr(client, "execute_command") or iscoroutinefunction(client.execute_command):
            raise TypeError(f"client must be a client of redis-py, and not an asyncio one, not {client!r}")
        if not isinstance(namespace, str) or not namespace or set(namespace) & set("{}"):
            raise ValueError(f"namespace must be a non-empty str without braces, not {namespace!r}")
        self._logger: Final = get_logger(__name__, type(self))
        self.client: Final = client
        # The braces put all keys into one slot of a cluster.
        self._keys: Final = tuple(f"{{{namespace}}}:{name}" for name in ("index", "values", "log"))
        self._keys_for_all: Final = tuple(f"{{{namespace}}}:{name}" for name in ("all-index", "all-values", "log"))
        self._limited_log: Final = RateLimitedLog(self._logger)
        self._mirror: Final = Tombstones(_MOST)
        self._for_all: Final = Tombstones(_MAX_BROADCASTS)
        self._reading: Final = Lock()
        self._reader: OwnConnection | None = None
        # The id up to which the log is in the mirror, and the lock for changing both.
        self._last_id = b"0-0"
        self._mirroring: Final = Lock()
        # When the mirror stops being fresh, and when the last log entry was received, in seconds.
        self._fresh_until = -math.inf
        self._heard_at = -math.inf
        # Whether receive() keeps the mirror up to date, and whether the server is known to reply.
        self._is_followed = False
        self._answers = False
        self._has_failed = False
        self.no_events_before: float = -math.inf
        self._querying: Final = Lock()
        self._query_connection: OwnConnection | None = None
        self._connections: Final = None if is_cluster(client) else Connections(client, self._keys[0])
        self.reply_store: ReplyStore = RedisReplyStore(client, namespace, self._ask)

    @classmethod
    def from_url(cls, url: str, *, namespace: str = "dramatiq-abort", **parameters: Any) -> RedisBackend:
        """Create a backend from a URL such as ``redis://user:password@host:6379/0``.

        Parameters:
          url: A URL as for ``redis.Redis.from_url()``: ``redis://``, ``rediss://`` or ``unix://``.
          namespace: Prefix of all keys, as for the class.
          **parameters: Parameters of the client. Its timeouts are 5 seconds unless these or the URL set others.

        Raises:
          ValueError: If redis-py does not understand the URL, or ``namespace`` is empty or contains braces.
        """
        parameters = {"socket_timeout": 5, "socket_connect_timeout": 5} | parameters
        return cls(client=redis.Redis.from_url(url, **parameters), namespace=namespace)

    def notify(self, key: bytes, ttl: int) -> None:
        self.signal([Event(key, b"", ttl)])

    def signal(self, events: Iterable[Event]) -> None:
        for (value, priority, _), alike in groupby(events, _kind):
            while step := list(islice(alike, MAX_EVENTS)):
                arguments = [word for event in step for word in (event.key, event.ttl)]
                keys = self._keys_of(step[0].key)
                server_now, entry_id, ends = self._ask(keys, SIGNAL, _RETENTION, value, priority, *arguments)
                # Add this process's own events to its mirror before they arrive in the log. If the log is further
                # already, it has brought them, and possibly later changes, which must not be overwritten.
                with self._mirroring:
                    if self._is_followed and position(entry_id) > position(self._last_id):
                        self._add(step, value, ends, server_now)
                        self._settle_locked()

    def poll(self, key: bytes) -> bool:
        return self._event_of_message(key) is not None

    def broadcasts(self) -> Mapping[bytes, Event]:
        if not self._is_followed:
            tombstones, _ = self._read_index(partial(self._ask, self._keys_for_all), _MAX_BROADCASTS)
        elif self._answers and not self._is_fresh:
            try:
                tombstones, _ = self._read_index(partial(self._ask_quickly, self._keys_for_all), _MAX_BROADCASTS)
            except _NoAnswer:
                tombstones = self._for_all.live()
        else:
            tombstones = self._for_all.live()
        return {key: event_of(key, tombstone) for key, tombstone in tombstones.items()}

    def events_for(self, key: bytes) -> Collection[Event]:
        is_certain = self._is_followed and self._mirror.is_whole and self._is_fresh
        has_any = self._for_all.is_used or self._mirror.get(key) is not None
        if is_certain and not has_any:
            return ()
        event = self._event_of_message(key)
        for_all = self.broadcasts().values()
        return for_all if event is None else [event, *for_all]

    def read(self, key: bytes) -> Event | None:
        tombstone = self._mirror_of(key).get(key) if self._is_followed else None
        if tombstone is not None:
            return event_of(key, tombstone)
        return _found(key, self._ask(self._keys_of(key), LOOK_UP, key))

    def revoke(self, key: bytes) -> bool:
        # The mirror is updated by the log alone: the entry of the signal may arrive after this, and would restore it.
        return bool(self._ask(self._keys_of(key), REVOKE, _RETENTION, key))

    def age(self, key: bytes) -> float | None:
        tombstone = self._mirror_of(key).get(key)
        if tombstone is None or tombstone.made is None:
            return None
        found = self._ask(self._keys_of(key), LOOK_UP, key)
        # The time from the signal until now, on the server's clock, which is read in whole milliseconds. If the end has
        # been extended since, the result is too low.
        return None if found is None else tombstone.stamp - found[0] - tombstone.made - 1

    def wait_many(self, keys: Collection[bytes], timeout: int) -> bytes | None:
        received = self.receive(keys, timeout)
        return None if received is None else received[0]

    def receive(self, keys: Collection[bytes], timeout: int) -> tuple[bytes, Event | None] | None:
        deadline = time.monotonic() + timeout / 1000
        with self._reading:
            if not self._is_followed:
                self._reader = None
                self._is_followed = True
            while True:
                received = self._hand_out(keys)
                if received is not None:
                    return received
                left = math.ceil((deadline - time.monotonic()) * 1000)  # the server waits for whole milliseconds
                self._follow(min(left, _LONGEST_WAIT))
                if time.monotonic() >= deadline or not self._is_followed:
                    return self._hand_out(keys)

    def wake(self) -> None:
        with self._mirroring:
            self._is_followed = False
            self._settle_locked()
        reader = self._reader
        if reader is not None:
            reader.cut()

    def _hand_out(self, keys: Collection[bytes]) -> tuple[bytes, Event | None] | None:
        return self._for_all.hand_out() or self._mirror.hand_out(keys)

    @property
    def _is_fresh(self) -> bool:
        return time.monotonic() < self._fresh_until

    @property
    def _must_ask(self) -> bool:
        """Whether the mirror is stale or incomplete, and the server is known to reply."""
        return self._answers and not (self._is_fresh and self._mirror.is_whole)

    def _follow(self, wait: int) -> None:
        """Bring the mirror up to date, or wait for the next change if it is."""
        try:
            if self._reader is None or not self._reader.is_ours:
                self._answers = False  # until it replies
                if self._has_failed:  # only then: reloading drops commands in flight on the client's connections
                    reload_nodes(self.client)
                self._reader = OwnConnection(self.client, self._keys[2], (_LONGEST_WAIT + _PATIENCE) / 1000)
                self._heard_at = -math.inf
            if time.monotonic() >= self._heard_at + _RETENTION / 1000:
                # Also if no entry arrived for as long as entries are kept: the log may have been restarted since.
                self._catch_up(self._reader)
                wait = 0  # read what was signaled meanwhile at once
            wait = max(1, wait)  # BLOCK 0 would wait indefinitely
            asked_at = time.monotonic()
            heard = self._read_log(self._reader, wait)
            if heard < _ENTRIES:  # otherwise, there may be more entries
                # The mirror is as fresh as the request is old: when the server replied, there were no other entries.
                with self._mirroring:
                    self._fresh_until = asked_at + (_FRESH if heard else _FRESH + wait) / 1000
                    self._settle_locked()
            self._answers = True
            self._has_failed = False
        except Exception:
            self._has_failed = True
            if self._is_followed:
                self._answers = False
                self._reader = None
                raise

    def _catch_up(self, reader: OwnConnection) -> None:
        """Read the index into the mirror, and before it the log, if this process was not disconnected for long.

        Only the log contains revocations, and the time of each signal. After a short disconnection it is read from the
        last known id, and the mirror then drops only what the log revokes: if the server has lost its data, the events
        that this process has received stay in effect.
        """
        resumes = time.monotonic() < self._fresh_until + _RETENTION / 2000
        if resumes:
            seconds, microseconds = reader.run("TIME")
            server_now = int(seconds) * 1000 + int(microseconds) // 1000
            while self._read_log(reader, 1, server_now) == _ENTRIES:
                pass
        tombstones, last_id = self._read_index(partial(self._run, reader.run, self._keys), _MOST)
        for_all, _ = self._read_index(partial(self._run, reader.run, self._keys_for_all), _MAX_BROADCASTS)
        with self._mirroring:
            if resumes:
                self._last_id = min(self._last_id, last_id, key=position)  # the log may have been restarted meanwhile
                for key, tombstone in chain(tombstones.items(), for_all.items()):
                    self._mirror_of(key).add(key, tombstone)
            else:
                self._last_id = last_id
                self._mirror.replace(tombstones)
                self._for_all.replace(for_all)
            self._settle_locked()
        self._heard_at = time.monotonic()

    def _read_index(self, ask: Callable[..., Any], most: int) -> tuple[dict[bytes, Tombstone], bytes]:
        """Return the live tombstones, or slightly more than ``most`` of them, and the log's last id before that."""
        tombstones: dict[bytes, Tombstone] = {}
        last_id: bytes | None = None
        cursor = b"0"
        while last_id is None or (cursor != b"0" and len(tombstones) <= most):
            server_now, newest, cursor, found, values = ask(PAGE, cursor, _PAGE)
            last_id = last_id or newest
            for key, end, value in zip(found[::2], found[1::2], values, strict=True):
                try:
                    tombstone = read_tombstone(key, end, value, server_now)
                except ValueError:
                    self._log_malformed(key, end)
                else:
                    if tombstone is not None:
                        tombstones[key] = tombstone
        return tombstones, last_id

    def _read_log(self, reader: OwnConnection, wait: int, server_now: int = 0) -> int:
        """Apply new log entries to the mirror, and return their number.

        Parameters:
          reader: A connection.
          wait: How many ms to wait if there are no new entries.
          server_now: A lower bound of the server's current time, for entries that were added long ago.
        """
        reply = reader.run("XREAD", "COUNT", _ENTRIES, "BLOCK", wait, "STREAMS", self._keys[2], self._last_id)
        streams = reply.values() if isinstance(reply, dict) else [entries for _, entries in reply or ()]  # RESP 3 and 2
        entries = list(chain.from_iterable(streams))
        if entries:
            self._heard_at = time.monotonic()
        for entry_id, fields in entries:
            if position(entry_id) > (LATEST,):
                self._log_malformed(entry_id, fields)
                self._heard_at = -math.inf  # catching up removes the entry
                break
            with self._mirroring:
                self._last_id = entry_id
                self._apply(fields, server_now)
                self._settle_locked()
        return len(entries)

    def _apply(self, fields: list[bytes], server_now: int) -> None:
        """Apply a log entry to the mirror. ``scripts.py`` describes the entries."""
        try:
            value, made, ends = read_entry(fields)
        except ValueError:
            self._log_malformed(self._last_id, fields)
            return
        for key, end in ends:
            if end:
                self._mirror_of(key).add(key, tombstone_of(value, end, max(made, server_now), made))
            else:
                self._mirror_of(key).discard(key)

    def _settle_locked(self) -> None:
        """Update ``no_events_before`` after a change of the mirror or of its freshness."""
        self._mirror.forget_expired()
        self._for_all.forget_expired()
        has_any = self._mirror.is_used or self._for_all.is_used or not self._mirror.is_whole
        self.no_events_before = -math.inf if has_any or not self._is_followed else self._fresh_until

    def _add(self, events: list[Event], value: bytes, answers: list[Any], server_now: int) -> None:
        for event, answer in zip(events, answers, strict=True):
            end, kept_value = answer if isinstance(answer, list) else (answer, value)
            self._mirror_of(event.key).add(event.key, tombstone_of(kept_value, end, server_now, server_now))

    def _log_malformed(self, name: bytes, content: object) -> None:
        self._limited_log.warning("Malformed data in Redis was ignored. %.200r: %.200r", name, content)

    def _keys_of(self, key: bytes) -> tuple[str, ...]:
        return self._keys_for_all if _is_for_all(key) else self._keys

    def _mirror_of(self, key: bytes) -> Tombstones:
        return self._for_all if _is_for_all(key) else self._mirror

    def _ask(self, keys: tuple[str, ...], script: Script, *arguments: Any) -> Any:
        if self._connections is None:  # a cluster's client finds the right node, and follows redirections
            return self._run(partial(self.client.execute_command, **{NEVER_DECODE: True}), keys, script, *arguments)
        return self._connections.use(lambda connection: self._run(connection.run, keys, script, *arguments))

    def _event_of_message(self, key: bytes) -> Event | None:
        """Return the live event of a starting message, or None."""
        if not self._is_followed:
            return _found(key, self._ask(self._keys, LOOK_UP, key))
        if self._must_ask:
            with suppress(_NoAnswer):
                return _found(key, self._ask_quickly(self._keys, LOOK_UP, key))
        tombstone = self._mirror.get(key)
        return None if tombstone is None else event_of(key, tombstone)

    def _ask_quickly(self, keys: tuple[str, ...], script: Script, *arguments: Any) -> Any:
        """Query the server on behalf of a starting message.

        While the server does not reply, a query would only delay the message; events missing in the mirror are received
        when the server is back. One querying thread is enough to find out that it does not reply.

        Raises:
          _NoAnswer: If the server does not reply, or no query is needed any more when it is this thread's turn.
        """
        if not self._querying.acquire(timeout=_PATIENCE_OF_MESSAGES / 1000):
            raise _NoAnswer
        try:
            if not self._must_ask:
                raise _NoAnswer
            if self._query_connection is None or not self._query_connection.is_ours:
                self._query_connection = OwnConnection(self.client, self._keys[0], _PATIENCE_OF_MESSAGES / 1000)
            return self._run(self._query_connection.run, keys, script, *arguments)
        except RedisError as error:
            self._query_connection = None
            self._answers = False
            raise _NoAnswer from error
        finally:
            self._querying.release()

    @staticmethod
    def _run(run: Callable[..., Any], keys: tuple[str, ...], script: Script, *arguments: Any) -> Any:
        arguments = (len(keys), *keys, *arguments)
        try:
            return run("EVALSHA", script.sha, *arguments)
        except NoScriptError:
            return run("EVAL", script.lua, *arguments)


class _NoAnswer(Exception):
    """Raised if the server cannot be queried, so the mirror must be used."""


def _found(key: bytes, answer: Any) -> Event | None:
    """Return the event in a reply to ``LOOK_UP``, or None."""
    return None if answer is None else Event(key, answer[1], int(answer[0]))


def _kind(event: Event) -> tuple[bytes, int, bool]:
    """Return the properties shared by all events signaled in one step."""
    return event.value, event.priority, _is_for_all(event.key)


def _is_for_all(key: bytes) -> bool:
    return key.startswith(BROADCAST_PREFIX)
