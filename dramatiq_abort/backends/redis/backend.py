"""An event backend on Redis, Valkey, and what speaks like them."""

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
from .connection import Connections, OwnConnection, find_anew, is_cluster
from .decoding import position, read_entry, read_tombstone, tombstone_of
from .replies import RedisReplyStore
from .scripts import LATEST, LOOK_UP, PAGE, REVOKE, SIGNAL, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from ..replies import ReplyStore

__all__ = ["RedisBackend"]

#: For how long the log is kept, in ms. A reader that was away for longer than half of it goes by the index alone.
_RETENTION: Final = 60_000

#: The longest wait for one answer, in ms: an idle worker sends less than two commands a second, all in all.
_LONGEST_WAIT: Final = 550

#: How much longer than the server waits for an entry, in ms, before it counts as dead.
_PATIENCE: Final = 750

#: How long a message may be held up by the question whether it is to start, in ms, when the mirror is not fresh.
_PATIENCE_OF_MESSAGES: Final = 100

#: How old the mirror may be, in ms, to be trusted: what was signaled longer ago than that is in it.
_FRESH: Final = 1000

#: How many tombstones one step in Redis reads, and how many entries of the log: a few ms of the server's time.
_PAGE: Final = 100
_ENTRIES: Final = 100

#: How many tombstones the mirror holds. If there are more, each message asks for its own.
_MOST: Final = 200_000

#: The same of those that are for all workers. If there are more, the oldest count as taken back.
_MAX_BROADCASTS: Final = 1000


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

    receives_all = True
    supports_broadcast = True

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
        self._keys_for_all: Final = tuple(f"{{{namespace}}}:{name}" for name in ("all-index", "all-values", "log"))
        self._limited_log: Final = RateLimitedLog(self._logger)
        self._mirror: Final = Tombstones(_MOST)
        self._for_all: Final = Tombstones(_MAX_BROADCASTS)
        self._reading: Final = Lock()
        self._reader: OwnConnection | None = None
        # Up to where the log is in the mirror, and who changes either of them.
        self._last_id = b"0-0"
        self._mirroring: Final = Lock()
        # When the mirror stops being fresh, and when it was last heard that anything has changed, in seconds.
        self._fresh_until = -math.inf
        self._heard_at = -math.inf
        # Whether somebody calls wait_many, and whether the server is known to answer.
        self._is_followed = False
        self._answers = False
        self._has_failed = False
        self.no_events_before: float = -math.inf
        self._asking: Final = Lock()
        self._asker: OwnConnection | None = None
        self._connections: Final = None if is_cluster(client) else Connections(client, self._keys[0])
        self.reply_store: ReplyStore = RedisReplyStore(client, namespace, self._ask)

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

    def notify(self, key: bytes, ttl: int) -> None:
        self.signal([Event(key, b"", ttl)])

    def signal(self, events: Iterable[Event]) -> None:
        for (value, priority, _), alike in groupby(events, _kind):
            while step := list(islice(alike, MAX_EVENTS)):
                words = [word for event in step for word in (event.key, event.ttl)]
                keys = self._keys_of(step[0].key)
                server_now, entry_id, ends = self._ask(keys, SIGNAL, _RETENTION, value, priority, *words)
                # What this process asks for itself, its mirror knows before its own connection brings it back. But if
                # that did already, it may also have brought what happened since.
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
        # The mirror hears of it from the log alone, or the entry that was signaled before could come in behind this.
        return bool(self._ask(self._keys_of(key), REVOKE, _RETENTION, key))

    def age(self, key: bytes) -> float | None:
        tombstone = self._mirror_of(key).get(key)
        if tombstone is None or tombstone.made is None:
            return None
        found = self._ask(self._keys_of(key), LOOK_UP, key)
        # From the making to now, on the server's clock, which is read in whole milliseconds. If the end has been moved
        # since, this is too little.
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
                left = math.ceil((deadline - time.monotonic()) * 1000)  # the server does not wait for less than that
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
        """Whether the mirror cannot be trusted, and the server is not known to be silent."""
        return self._answers and not (self._is_fresh and self._mirror.is_whole)

    def _follow(self, wait: int) -> None:
        """Bring the mirror up to date, and if it is, wait for the next change."""
        try:
            if self._reader is None or not self._reader.is_ours:
                self._answers = False  # until it does
                if self._has_failed:  # else it knows, and to ask would cut off who is asking it something
                    find_anew(self.client)
                self._reader = OwnConnection(self.client, self._keys[2], (_LONGEST_WAIT + _PATIENCE) / 1000)
                self._heard_at = -math.inf
            if time.monotonic() >= self._heard_at + _RETENTION / 1000:
                # Or nothing has been heard for as long as the log is kept, and the next log may begin anywhere.
                self._catch_up(self._reader)
                wait = 0  # what was signaled meanwhile is in the log
            wait = max(1, wait)  # 0 would be for ever
            asked_at = time.monotonic()
            heard = self._read_log(self._reader, wait)
            if heard < _ENTRIES:  # else there may be more
                # However long the answer was on its way: when the server gave it, there was nothing else.
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
        """Take the index into the mirror, and before that what the log has and the index has not.

        That is what was taken back, and when each was signaled. So if this process was not away for long, the log is
        read from where it was left; and the mirror forgets nothing else then: a server that has lost its data does not
        take back what this process has heard of.
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
                self._last_id = min(self._last_id, last_id, key=position)  # another log may have begun meanwhile
                for key, tombstone in chain(tombstones.items(), for_all.items()):
                    self._mirror_of(key).add(key, tombstone)
            else:
                self._last_id = last_id
                self._mirror.replace(tombstones)
                self._for_all.replace(for_all)
            self._settle_locked()
        self._heard_at = time.monotonic()

    def _read_index(self, ask: Callable[..., Any], most: int) -> tuple[dict[bytes, Tombstone], bytes]:
        """Return the live tombstones, or a little more than ``most`` of them, and the log's last id before that."""
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
                    self._complain_of(key, end)
                else:
                    if tombstone is not None:
                        tombstones[key] = tombstone
        return tombstones, last_id

    def _read_log(self, reader: OwnConnection, wait: int, server_now: int = 0) -> int:
        """Take what has been added to the log into the mirror, and return how much that was.

        Parameters:
          reader: A connection.
          wait: For how many ms to wait if there is nothing.
          server_now: The time that it is at least, for what was added long ago.
        """
        reply = reader.run("XREAD", "COUNT", _ENTRIES, "BLOCK", wait, "STREAMS", self._keys[2], self._last_id)
        streams = reply.values() if isinstance(reply, dict) else [entries for _, entries in reply or ()]  # RESP 3 and 2
        entries = list(chain.from_iterable(streams))
        if entries:
            self._heard_at = time.monotonic()
        for entry_id, fields in entries:
            if position(entry_id) > (LATEST,):
                self._complain_of(entry_id, fields)
                self._heard_at = -math.inf  # to catch up removes it
                break
            with self._mirroring:
                self._last_id = entry_id
                self._apply(fields, server_now)
                self._settle_locked()
        return len(entries)

    def _apply(self, fields: list[bytes], server_now: int) -> None:
        """Take one entry of the log into the mirror: ``_scripts.py`` says what is in it."""
        try:
            value, made, ends = read_entry(fields)
        except ValueError:
            self._complain_of(self._last_id, fields)
            return
        for key, end in ends:
            if end:
                self._mirror_of(key).add(key, tombstone_of(value, end, max(made, server_now), made))
            else:
                self._mirror_of(key).discard(key)

    def _settle_locked(self) -> None:
        """Say whether messages need ask at all, after each change of what that depends on."""
        self._mirror.forget_expired()
        self._for_all.forget_expired()
        has_any = self._mirror.is_used or self._for_all.is_used or not self._mirror.is_whole
        self.no_events_before = -math.inf if has_any or not self._is_followed else self._fresh_until

    def _add(self, events: list[Event], value: bytes, answers: list[Any], server_now: int) -> None:
        for event, answer in zip(events, answers, strict=True):
            end, said = answer if isinstance(answer, list) else (answer, value)
            self._mirror_of(event.key).add(event.key, tombstone_of(said, end, server_now, server_now))

    def _complain_of(self, name: bytes, what: object) -> None:
        self._limited_log.warning("In Redis, %.200r: %.200r is none of ours and is ignored.", name, what)

    def _keys_of(self, key: bytes) -> tuple[str, ...]:
        return self._keys_for_all if _is_for_all(key) else self._keys

    def _mirror_of(self, key: bytes) -> Tombstones:
        return self._for_all if _is_for_all(key) else self._mirror

    def _ask(self, keys: tuple[str, ...], script: Script, *words: Any) -> Any:
        if self._connections is None:  # a cluster's client knows best which node to ask, and when to ask another one
            return self._run(partial(self.client.execute_command, **{NEVER_DECODE: True}), keys, script, *words)
        return self._connections.use(lambda connection: self._run(connection.run, keys, script, *words))

    def _event_of_message(self, key: bytes) -> Event | None:
        """Return the live event of a message that is to start, or None if there is none."""
        if not self._is_followed:
            return _found(key, self._ask(self._keys, LOOK_UP, key))
        if self._must_ask:
            with suppress(_NoAnswer):
                return _found(key, self._ask_quickly(self._keys, LOOK_UP, key))
        tombstone = self._mirror.get(key)
        return None if tombstone is None else event_of(key, tombstone)

    def _ask_quickly(self, keys: tuple[str, ...], script: Script, *words: Any) -> Any:
        """Ask on behalf of a message that is to start.

        While the server does not answer, asking it would only make the message wait: what the mirror does not know is
        handed out when the server is back. One thread that asks is enough to find that out.

        Raises:
          _NoAnswer: When there is none, or none is needed any more, now that it is this thread's turn.
        """
        if not self._asking.acquire(timeout=_PATIENCE_OF_MESSAGES / 1000):
            raise _NoAnswer
        try:
            if not self._must_ask:
                raise _NoAnswer
            if self._asker is None or not self._asker.is_ours:
                self._asker = OwnConnection(self.client, self._keys[0], _PATIENCE_OF_MESSAGES / 1000)
            return self._run(self._asker.run, keys, script, *words)
        except RedisError as error:
            self._asker = None
            self._answers = False
            raise _NoAnswer from error
        finally:
            self._asking.release()

    @staticmethod
    def _run(run: Callable[..., Any], keys: tuple[str, ...], script: Script, *words: Any) -> Any:
        words = (len(keys), *keys, *words)
        try:
            return run("EVALSHA", script.sha, *words)
        except NoScriptError:
            return run("EVAL", script.lua, *words)


class _NoAnswer(Exception):
    """The mirror has to do."""


def _found(key: bytes, answer: Any) -> Event | None:
    """Return the event that the server has looked up."""
    return None if answer is None else Event(key, answer[1], int(answer[0]))


def _kind(event: Event) -> tuple[bytes, int, bool]:
    """What the events of one step have in common."""
    return event.value, event.priority, _is_for_all(event.key)


def _is_for_all(key: bytes) -> bool:
    return key.startswith(BROADCAST_PREFIX)
