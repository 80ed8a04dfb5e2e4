"""The public interface as type checkers see it. This file is not run: mypy checks it strictly."""

from __future__ import annotations

import dramatiq
import redis
from _typeshed.wsgi import WSGIApplication
from typing_extensions import assert_type

from dramatiq_abort import (
    Abort,
    Abortable,
    AbortMode,
    Event,
    EventBackend,
    __version__,
    abort,
    abort_requested,
    restore,
    shield,
)
from dramatiq_abort._core.shield import AnyShield
from dramatiq_abort.backends import RedisBackend, StubBackend
from dramatiq_abort.interrupt import IMPLEMENTATION, SUPPORTED, InterruptResult, Scope
from dramatiq_abort.web import Server, application, make_server, serve

assert_type(__version__, str)

# Backends.
assert_type(StubBackend(), StubBackend)
assert_type(RedisBackend(), RedisBackend)
assert_type(RedisBackend(client=redis.Redis(), namespace="mine"), RedisBackend)
backend: EventBackend = RedisBackend.from_url("redis://localhost", namespace="mine", socket_timeout=1)
assert_type(backend.notify(b"key", 1_000), None)
assert_type(backend.poll(b"key"), bool)
assert_type(backend.wait_many([b"key"], 100), bytes | None)
assert_type(backend.receive([b"key"], 100), tuple[bytes, Event | None] | None)
assert_type(backend.signal([Event(b"key", b"value", 1_000)]), None)
assert_type(backend.read(b"key"), Event | None)
assert_type(backend.revoke(b"key"), bool)
RedisBackend(redis.Redis())  # type: ignore[call-arg]  # a client has a name


class ThreeMethods(EventBackend):
    """The required methods of a backend."""

    def notify(self, key: bytes, ttl: int) -> None: ...

    def poll(self, key: bytes) -> bool:
        return bool(key)

    def wait_many(self, keys: object, timeout: int) -> bytes | None: ...


# The middleware.
middleware = Abortable(backend=ThreeMethods(), abortable=False, abort_ttl=1_000, fail_skipped=True)
assert_type(Abortable(), Abortable)
assert_type(middleware.backend, EventBackend)
assert_type(middleware.abort("id", 1_000, AbortMode.CANCEL, 500), None)
assert_type(middleware.get_abort_request("id"), float | None)
Abortable(backend)  # type: ignore[call-arg]  # the backend has a name

# The functions, by position in the order that 1.2 has, and by name.
assert_type(abort("id"), None)
assert_type(abort("id", middleware, 1_000, AbortMode.CANCEL, 500), None)
abort("id", middleware=middleware, abort_ttl=1_000, mode=AbortMode.ABORT, abort_timeout=500)
abort("id", mode="abort")  # type: ignore[arg-type]  # a mode is no string
message: dramatiq.Message[int] = dramatiq.Message("queue", "actor", (), {}, {})
abort(message, repeat_every=1_000)
abort([message, "id", dramatiq.group([message]), [dramatiq.pipeline([message])]])
abort(b"id")  # type: ignore[arg-type]  # neither is an id
assert_type(restore("id", middleware), bool)
assert_type(abort_requested(), float | None)
assert_type(abort_requested("id", middleware), float | None)
assert_type(shield(), AnyShield)

# A shield suppresses no exception, so the code after it is reached only through its block.
try:
    with shield():
        inside = 1
    assert_type(inside, int)
except Abort as caught:
    assert_type(caught.message_id, str | None)


# The core.
def task(number: int, *, text: str) -> list[str]:
    """Do something."""
    return [text] * number


scope = Scope()
assert_type(scope.run(task, (2,), {"text": "x"}), list[str])
assert_type(scope.run(dict[str, int]), dict[str, int])
assert_type(scope.interrupt(Abort), InterruptResult)
assert_type(scope.shield(), AnyShield)
scope.interrupt(Abort())  # type: ignore[arg-type]  # a class, not an instance
assert_type(IMPLEMENTATION, str)
assert_type(SUPPORTED, bool)

# The dashboard.
assert_type(application(arguments=True, by=lambda environ: environ.get("REMOTE_USER")), WSGIApplication)
assert_type(make_server(port=0), Server)
assert_type(serve(started=print), None)
