"""The specifics of the event backend on Redis."""

from __future__ import annotations

import math
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import redis
from support import PATIENCE, wait_until

from dramatiq_abort import Event
from dramatiq_abort._protocol.event import BROADCAST_PREFIX
from dramatiq_abort._protocol.request import key_of
from dramatiq_abort.backends import RedisBackend
from dramatiq_abort.backends.redis.connection import OwnConnection

if TYPE_CHECKING:
    from support import Server

pytestmark = pytest.mark.redis_versions

LONG = 60_000


class Following:
    """A backend with a thread that always waits for events, like a watcher, and records them."""

    def __init__(self, backend: RedisBackend, *keys: bytes) -> None:
        self.backend = backend
        self.heard: list[bytes] = []
        self.errors: list[BaseException] = []
        self._keys = keys
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Following:  # noqa: PYI034 - Self is newer than 3.10
        self._thread.start()
        wait_until(lambda: self.backend._answers, "the first answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stopping:
            time.sleep(0)  # let waiters acquire the backend's lock, as gevent's locks are not fair
            try:
                key = self.backend.wait_many(self._keys, 100)
            except redis.RedisError as error:
                self.errors.append(error)
            else:
                if key is not None:
                    self.heard.append(key)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the commands of the test's thread, without a watcher's."""
    sent: list[str] = []
    send = OwnConnection.run

    def run(self: OwnConnection, *words: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            sent.append(words[0])
        return send(self, *words)

    monkeypatch.setattr(OwnConnection, "run", run)
    return sent


def test_a_fresh_mirror_is_not_asked_for(server: Server, namespace: str, commands: list[str]) -> None:
    """While the watcher is connected, a question costs no command (7)."""
    with server.client() as client, Following(RedisBackend(client=client, namespace=namespace)) as following:
        following.backend.notify(b"a", LONG)
        following.backend.notify(BROADCAST_PREFIX + b"b", LONG)
        wait_until(
            lambda: following.backend._mirror.get(b"a") and following.backend._for_all.get(BROADCAST_PREFIX + b"b")
        )
        following.backend._fresh_until = math.inf  # even on a busy machine
        commands.clear()
        answers = {(following.backend.poll(b"a"), following.backend.poll(b"b")) for _ in range(1_000)}
        events = [[event.key for event in following.backend.events_for(key)] for key in (b"a", b"b")]

    assert answers == {(True, False)}
    assert events == [[b"a", BROADCAST_PREFIX + b"b"], [BROADCAST_PREFIX + b"b"]]
    assert commands == []


def test_what_is_for_all_is_known_however_full_the_mirror_is(
    server: Server, namespace: str, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a full mirror, broadcasts are still known, and each message asks only for its own request."""
    monkeypatch.setattr("dramatiq_abort.backends.redis.backend._MOST", 1)
    with server.client() as client, Following(RedisBackend(client=client, namespace=namespace)) as following:
        for key in (b"a", b"b", BROADCAST_PREFIX):
            following.backend.notify(key, LONG)
        wait_until(lambda: following.backend._for_all.get(BROADCAST_PREFIX) and not following.backend._mirror.is_whole)
        following.backend._fresh_until = math.inf  # even on a busy machine
        commands.clear()
        broadcasts = list(following.backend.broadcasts())

    assert broadcasts == [BROADCAST_PREFIX]
    assert commands == []


def test_a_stale_mirror_is_not_trusted(
    redis_client: redis.Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the log is no longer followed, Redis is asked."""
    backend = RedisBackend(client=redis_client, namespace=namespace)
    monkeypatch.setattr("dramatiq_abort.backends.redis.backend._PATIENCE_OF_MESSAGES", 1000 * PATIENCE)
    backend.wait_many([], 1)  # then the watcher stalls
    backend._fresh_until = math.inf
    RedisBackend(client=redis_client, namespace=namespace).signal([Event(b"a", b"value", LONG)])
    assert not backend.poll(b"a")
    assert not backend.events_for(b"a")
    backend._fresh_until = 0

    assert backend.poll(b"a")
    assert [event.key for event in backend.events_for(b"a")] == [b"a"]
    event = backend.read(b"a")
    assert event is not None
    assert event.value == b"value"


def test_it_is_not_quiet_before_all_has_been_read(redis_client: redis.Redis, namespace: str) -> None:
    """Messages ask until the whole index has been read, and its events are handed out first."""
    backend = RedisBackend(client=redis_client, namespace=namespace)
    backend.wait_many([], 1)
    backend.wait_many([], 1)
    assert backend.no_events_before > time.monotonic()
    other = RedisBackend(client=redis_client, namespace=namespace)
    for number in range(150):
        other.notify(b"%d" % number, LONG)

    assert backend.wait_many([b"0"], LONG) == b"0"
    assert backend.no_events_before == -math.inf
    backend.wake()
    assert backend.no_events_before == -math.inf


def test_a_mirror_that_nobody_follows_is_not_trusted(redis_client: redis.Redis, namespace: str) -> None:
    """The mirror is not trusted after its watcher has stopped, however fresh it was."""
    backend = RedisBackend(client=redis_client, namespace=namespace)
    backend.wait_many([], 1)
    backend._fresh_until = math.inf
    backend.wake()
    RedisBackend(client=redis_client, namespace=namespace).notify(b"a", LONG)

    assert backend.poll(b"a")
    assert [event.key for event in backend.events_for(b"a")] == [b"a"]


def test_a_cut_connection_loses_nothing(server: Server, redis_client: redis.Redis, namespace: str) -> None:
    """Events signaled during a lost connection are handed out afterwards, each once (5)."""
    with (
        server.client() as client,
        Following(RedisBackend(client=client, namespace=namespace), b"a", b"b") as following,
    ):
        RedisBackend(client=redis_client, namespace=namespace).notify(b"a", LONG)
        wait_until(lambda: following.heard == [b"a"])
        following.backend._reading.acquire()  # the watcher is about to wait again
        redis_client.client_kill_filter(skipme=True, _type="normal")
        RedisBackend(client=redis_client, namespace=namespace).notify(b"b", LONG)
        following.backend._reading.release()
        wait_until(lambda: b"b" in following.heard)

    assert following.heard == [b"a", b"b"]


def test_a_restarted_server_that_kept_its_data_loses_nothing(own_server: Server) -> None:
    """Events signaled before a restart are known after it (5)."""
    with own_server.client() as client:
        RedisBackend(client=client).signal([Event(b"a", b"value", LONG)])
        own_server.kill()
        own_server.start()
        backend = RedisBackend(client=client)

        assert backend.wait_many([b"a"], LONG) == b"a"
        event = backend.read(b"a")

    assert event is not None
    assert event.value == b"value"


def test_a_reader_that_comes_late_takes_the_index(redis_client: redis.Redis, namespace: str) -> None:
    """A worker that starts after the request, and after the log was trimmed, receives it (5)."""
    writer = RedisBackend(client=redis_client, namespace=namespace)
    keys = {b"%d" % number for number in range(3_000)}
    writer.signal([Event(key, b"v" + key, LONG) for key in keys])
    redis_client.delete(f"{{{namespace}}}:log")

    late = RedisBackend(client=redis_client, namespace=namespace)
    heard = {late.wait_many(keys, 1_000) for _ in keys}

    assert heard == keys
    assert {late.read(key).value for key in keys} == {b"v" + key for key in keys}  # type: ignore[union-attr]


def test_what_is_taken_back_leaves_the_mirror(redis_client: redis.Redis, namespace: str) -> None:
    """A revoked event is removed from mirrors, and followers receive the revocation."""
    writer = RedisBackend(client=redis_client, namespace=namespace)
    with Following(RedisBackend(client=redis_client, namespace=namespace)) as following:
        writer.notify(b"a", LONG)
        wait_until(lambda: following.backend.poll(b"a"))
        writer.revoke(b"a")
        wait_until(lambda: not following.backend.poll(b"a"))


def test_what_is_taken_back_is_not_revived(
    redis_client: redis.Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late write into the caller's own mirror does not revive a revoked event."""
    other = RedisBackend(client=redis_client, namespace=namespace)
    with Following(RedisBackend(client=redis_client, namespace=namespace)) as following:
        backend = following.backend
        ask = backend._ask

        def ask_and_be_late(*words: Any) -> Any:
            answer = ask(*words)
            other.revoke(b"a")
            other.notify(b"b", LONG)
            wait_until(lambda: backend._mirror.get(b"b"))
            return answer

        monkeypatch.setattr(backend, "_ask", ask_and_be_late)
        backend.notify(b"a", LONG)

        assert not backend.poll(b"a")


def test_a_log_that_begins_anew_is_heard(
    redis_client: redis.Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new log with earlier ids is followed, as after the server's clock was set back."""
    monkeypatch.setattr("dramatiq_abort.backends.redis.backend._RETENTION", 2_000)
    log = f"{{{namespace}}}:log"
    with Following(RedisBackend(client=redis_client, namespace=namespace), b"a") as following:
        redis_client.xadd(log, {"v": "", "n": "1", "b": "1"}, id="99999999999999-0")
        wait_until(lambda: following.backend._last_id == b"99999999999999-0")
        redis_client.delete(log)
        wait_until(lambda: following.backend._last_id == b"0-0")
        RedisBackend(client=redis_client, namespace=namespace).notify(b"a", LONG)
        wait_until(lambda: following.heard == [b"a"])


def test_everything_goes_with_its_time_to_live(redis_client: redis.Redis, namespace: str) -> None:
    """Without a worker, Redis expires tombstones by itself, and the log once no reader can need it."""
    backend = RedisBackend(client=redis_client, namespace=namespace)
    backend.signal([Event(b"a", b"value", 3_000), Event(b"b", ttl=2_000)])
    assert redis_client.exists(*(f"{{{namespace}}}:{name}" for name in ("index", "values", "log"))) == 3
    assert 0 < redis_client.pttl(f"{{{namespace}}}:log") <= 60_000

    wait_until(lambda: not redis_client.exists(f"{{{namespace}}}:index", f"{{{namespace}}}:values"))


def test_what_is_over_is_removed_on_the_way(redis_client: redis.Redis, namespace: str) -> None:
    """Expired tombstones are removed even while a long one is live."""
    backend = RedisBackend(client=redis_client, namespace=namespace)
    backend.signal([Event(b"a", b"value", 10), Event(b"b", b"value", LONG)])
    wait_until(lambda: not backend.poll(b"a"))

    backend.notify(b"c", LONG)

    assert set(redis_client.zrange(f"{{{namespace}}}:index", 0, -1)) == {b"b", b"c"}
    assert redis_client.hkeys(f"{{{namespace}}}:values") == [b"b"]


def test_a_shorter_request_does_not_end_a_longer_one(redis_client: redis.Redis, namespace: str) -> None:
    """A shorter request does not end a longer one early (5)."""
    backend = RedisBackend(client=redis_client, namespace=namespace)
    backend.notify(b"a", LONG)
    backend.notify(b"a", 1)

    event = backend.read(b"a")

    assert event is not None
    assert event.ttl is not None
    assert event.ttl > LONG / 2


def test_the_clients_patience_is_not_ours(server: Server, redis_client: redis.Redis, namespace: str) -> None:
    """A worker may wait longer than its client's timeout."""
    with (
        server.client(socket_timeout=0.1) as client,
        Following(RedisBackend(client=client, namespace=namespace), b"a") as following,
    ):
        time.sleep(0.3)
        RedisBackend(client=redis_client, namespace=namespace).notify(b"a", LONG)
        wait_until(lambda: following.heard == [b"a"])

    assert following.errors == []


def test_the_pool_is_left_to_the_user(server: Server, namespace: str) -> None:
    """A worker listens on its own connection, not on one of the client's pool."""
    with (
        server.client(max_connections=1) as client,
        Following(RedisBackend(client=client, namespace=namespace), b"a") as following,
    ):
        RedisBackend(client=client, namespace=namespace).notify(b"a", LONG)
        wait_until(lambda: following.heard == [b"a"])

    assert following.errors == []


def test_a_server_that_stands_still_is_not_asked(
    own_server: Server, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server known not to respond is not asked: messages start by the mirror, and no abort is lost (5, 6)."""
    monkeypatch.setattr("dramatiq_abort.backends.redis.backend._PATIENCE", 750)
    with own_server.client() as client, Following(RedisBackend(client=client), b"a", b"b") as following:
        following.backend.notify(b"a", LONG)
        wait_until(lambda: following.heard == [b"a"])
        with own_server.stopped():
            wait_until(lambda: not following.backend._answers)
            commands.clear()
            answers = {(following.backend.poll(b"a"), following.backend.poll(b"b")) for _ in range(100)}
            asked = list(commands)
        RedisBackend(client=client).notify(b"b", LONG)
        wait_until(lambda: following.heard == [b"a", b"b"])

    assert answers == {(True, False)}
    assert asked == []


def test_a_server_is_not_asked_before_it_has_answered(own_server: Server, commands: list[str]) -> None:
    """A worker that boots while the server does not respond starts its messages at once (6)."""
    with own_server.client() as client:
        backend = RedisBackend(client=client)
        with own_server.stopped():
            following = Following(backend)
            following._thread.start()
            wait_until(lambda: backend._is_followed)
            commands.clear()
            assert not backend.poll(b"a")
            asked = list(commands)
        wait_until(lambda: backend._answers)
        following.__exit__()

    assert asked == []


def test_namespaces_do_not_meet(redis_client: redis.Redis, namespace: str) -> None:
    """Namespaces on one server are separate."""
    RedisBackend(client=redis_client, namespace=namespace).notify(b"a", LONG)
    other = RedisBackend(client=redis_client, namespace=f"{namespace}-other")

    assert not other.poll(b"a")
    assert other.wait_many([b"a"], 1) is None


def test_what_is_not_ours_is_ignored(
    redis_client: redis.Redis, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each foreign entry is ignored with a log line, and the next entry is received."""
    with Following(RedisBackend(client=redis_client, namespace=namespace), b"a") as following:
        redis_client.xadd(f"{{{namespace}}}:log", {"something": "else"})
        redis_client.xadd(f"{{{namespace}}}:log", {"v": "", "n": "1", "b": "soon"})
        RedisBackend(client=redis_client, namespace=namespace).notify(b"a", LONG)
        wait_until(lambda: following.heard == [b"a"])

    assert following.errors == []
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "Malformed data in Redis was ignored" in caplog.text


def test_the_backend_of_a_url(redis_url: str, namespace: str) -> None:
    """Parameters in the URL override ours."""
    backend = RedisBackend.from_url(f"{redis_url}?socket_timeout=2", namespace=namespace)

    backend.notify(b"a", LONG)

    assert backend.poll(b"a")
    assert backend.client.get_connection_kwargs()["socket_timeout"] == 2
    assert backend.client.get_connection_kwargs()["socket_connect_timeout"] == 5
    backend.client.close()


def test_without_anything_it_is_the_server_of_this_machine() -> None:
    """Without parameters, it uses the local server, and connects on first use."""
    backend = RedisBackend()

    assert backend.client.get_connection_kwargs()["port"] == 6379
    assert backend.client.get_connection_kwargs()["socket_timeout"] == 5


@pytest.mark.parametrize("wrong", ["redis://x", object(), redis.asyncio.Redis()])
def test_what_is_no_client_is_refused(wrong: object) -> None:
    """An invalid client raises at once, with what is needed."""
    with pytest.raises(TypeError, match="client must be a client of redis-py"):
        RedisBackend(client=wrong)


@pytest.mark.parametrize("wrong", ["", "{x}", None, b"x"])
def test_what_is_no_namespace_is_refused(redis_client: redis.Redis, wrong: Any) -> None:
    """An invalid namespace raises at once, with what is needed."""
    with pytest.raises(ValueError, match="without braces"):
        RedisBackend(client=redis_client, namespace=wrong)


@pytest.mark.parametrize("wrong", ["localhost:6379", "http://localhost", "redis://localhost:port"])
def test_a_bad_url_is_refused(wrong: str) -> None:
    """redis-py refuses an invalid URL at once."""
    with pytest.raises(ValueError, match=r"scheme|port|Port"):
        RedisBackend.from_url(wrong)


def test_a_request_takes_a_bounded_memory(own_server: Server, namespace: str) -> None:
    """A plain abort takes at most 300 bytes on the server, including its share of the log."""
    count = 10_000
    with own_server.client() as client:
        backend = RedisBackend(client=client, namespace=namespace)
        backend.notify(b"the first one makes the keys", LONG)
        before = client.info("memory")["used_memory"]
        backend.signal(Event(key_of(str(uuid.uuid4())), ttl=LONG) for _ in range(count))
        each = (client.info("memory")["used_memory"] - before) / count

    assert 0 < each <= 300


def test_what_says_something_ends_when_the_rest_does(server: Server, namespace: str) -> None:
    """The half millisecond that marks a value in the index does not extend its time to live."""
    with server.client() as client:
        backend = RedisBackend(client=client, namespace=namespace)
        left: set[int | None] = set()

        def is_seen_from_near() -> bool:
            backend.signal([Event(b"a", b"value", 3)])
            while (event := backend.read(b"a")) is not None:
                left.add(event.ttl)
            return 1 in left

        wait_until(is_seen_from_near)
        for _ in range(20):
            is_seen_from_near()

    assert left <= {1, 2, 3}
