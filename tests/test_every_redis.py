"""The life of an abort over every kind of connection to every available Redis."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
import redis
from support import PATIENCE, result_of, run_forever, wait_until
from ways import PROGRAMS, WAYS, documented_rules, kinds, make_user

from dramatiq_abort import (
    Abortable,
    BackendError,
    Event,
    OutcomeState,
    Reply,
    abort,
    abort_all,
    abort_rules,
    restore,
    running,
    wait_for_outcome,
)
from dramatiq_abort._protocol.request import key_of
from dramatiq_abort.backends import RedisBackend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dramatiq.brokers.stub import StubBroker
    from support import Server
    from ways import Way

pytestmark = [pytest.mark.every_server, pytest.mark.redis_versions]

LONG = 60_000


def backend_on(client: Any, namespace: str) -> RedisBackend:
    """Return a backend that waits without a limit, whatever its client's timeout: the machine may be busy."""
    backend = RedisBackend(client=client, namespace=namespace)
    if backend._connections is not None:
        backend._connections._patience = PATIENCE
    return backend


@pytest.fixture
def callers(way: Way, namespace: str) -> Iterator[Abortable]:
    """Return the backend of callers, with their own client of the same kind."""
    with closing(way.connect()) as client:
        yield Abortable(backend=backend_on(client, namespace))


@pytest.fixture
def abortable(way: Way, namespace: str) -> Iterator[Abortable]:
    """Return the worker's Abortable."""
    with closing(way.connect()) as client:
        yield Abortable(backend=backend_on(client, namespace))


@pytest.mark.parametrize("way", kinds([*PROGRAMS], [*WAYS]), indirect=True)
def test_the_whole_life_of_an_abort(
    way: Way, abortable: Abortable, callers: Abortable, broker: StubBroker, worker: dramatiq.Worker
) -> None:
    """A waiting message, a running one, and one that runs while all connections are cut are aborted."""
    started = threading.Event()

    @dramatiq.actor
    def task(*, for_ever: bool) -> str:
        if for_ever:
            run_forever(started)
        return "done"

    def asked(message_id: str) -> bool:
        try:
            abort(message_id, callers)
        except BackendError:  # from a client that does not retry on a new connection
            return False
        return True

    def aborted() -> Any:
        started.clear()
        message = task.send(for_ever=True)
        assert started.wait(PATIENCE)
        wait_until(lambda: asked(message.message_id), "the request")
        return result_of(message)[0]

    waiting, other = task.message(for_ever=False), task.message(for_ever=False)
    abort(waiting.message_id, callers)
    wait_until(lambda: abortable.backend.poll(key_of(waiting.message_id)), "the request in the worker's mirror")
    broker.enqueue(waiting)
    broker.enqueue(other)
    assert (result_of(waiting), result_of(other)) == (None, "done")
    assert aborted() == "Abort"
    way.cut()
    assert aborted() == "Abort"


@pytest.mark.parametrize("way", kinds([*PROGRAMS], [*WAYS]), indirect=True)
def test_everything_that_is_asked_and_told(
    way: Way, abortable: Abortable, callers: Abortable, broker: StubBroker, worker: dramatiq.Worker
) -> None:
    """Running messages, a rule, an outcome that is waited for, and the rule's restoration work."""
    started = threading.Event()

    @dramatiq.actor
    def task(*, for_ever: bool) -> str:
        if for_ever:
            run_forever(started)
        return "done"

    message = task.send(for_ever=True)
    assert started.wait(PATIENCE)
    wait_until(lambda: running(callers).workers, "the worker's entry")
    assert [each.message_id for each in running(callers, timeout=LONG)] == [message.message_id]
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(wait_for_outcome, message.message_id, callers, timeout=LONG)
        rule = abort_all(callers, actor="task")
        assert waiting.result().state is OutcomeState.ABORTED
    assert abort_rules(callers) == [rule]
    assert restore(rule, callers)
    assert abort_rules(callers) == []
    assert result_of(task.send(for_ever=False)) == "done"


@pytest.mark.parametrize("way", kinds([*PROGRAMS], ["plain"]), indirect=True)
def test_a_user_needs_all_rights_that_are_documented(way: Way, namespace: str) -> None:
    """A Redis user needs exactly the documented permissions."""
    [server] = way.servers
    documented = documented_rules(namespace)
    assert len(documented) > 10

    def allowed(abort_rules: list[str]) -> bool:
        make_user(server, namespace, abort_rules)
        try:
            use_everything(server, username=namespace, password="secret")  # noqa: S106 - of no worth
        except redis.ResponseError as error:
            assert re.search("permission|ACL failure|can't run", str(error)), error
            return False
        return True

    def use_everything(server: Server, **user: str) -> None:
        with server.client() as client:
            client.script_flush()
            client.delete(*client.keys(f"*{namespace}*") or ["none"])
            client.set(f"{{{namespace}}}:log", "none of ours")
            client.set(f"{{{namespace}}}:replies", "none of ours")
        with server.client(**user) as client:
            backend = RedisBackend(client=client, namespace=namespace)
            backend.signal([Event(b"over", b"value", 1)])
            wait_until(lambda: not backend.poll(b"over"))
            backend.signal([Event(b"a", b"value", LONG)])
            backend.signal([Event(b"a", b"", LONG)])
            assert RedisBackend(client=client, namespace=namespace).wait_many([b"a"], 1) == b"a"
            assert backend.revoke(b"a")
            backend.reply_store.register(b"worker", LONG)
            assert backend.reply_store.workers() == [b"worker"]
            assert backend.reply_store.wait([b"note"], 1) == {}
            backend.reply_store.put([Reply(b"note", b"text", LONG)])
            assert backend.reply_store.wait([b"note"], 1) == {b"note": b"text"}

    assert allowed(documented)
    assert [rule for rule in documented if allowed([other for other in documented if other != rule])] == []
