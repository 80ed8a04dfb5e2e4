"""Replies of workers reach callers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .._protocol.reply import MAX_REPLIES, MAX_REPLY, Reply
from ._fixtures import Fixtures
from ._patience import HOUR, LONG, PATIENCE, SHORT, in_thread, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..backends.replies import ReplyStore
    from ._fixtures import MakeBackend

__all__ = ["ReplyStores"]

#: Any bytes can be a name, and each of these is a different name.
NAMES = [
    b"a",
    b"A",
    b"a ",
    b"a\x00",
    b"*",
    b"a*",
    b"%",
    b"_",
    b"a:b",
    b"{a}",
    b"a' OR ''='",
    b"\xff",
    bytes(range(256)),
]


class ReplyStores(Fixtures):
    """``reply_store``: replies, and registered workers."""

    def test_a_reply_can_be_read_by_all(self, reply_store: ReplyStore, make_backend: MakeBackend) -> None:
        """Reading does not delete it."""
        assert reply_store.wait([b"a", b"b"], 0) == {}

        reply_store.put([Reply(b"a", b"text", HOUR), Reply(b"c", b"other", HOUR)])

        stores = (reply_store, reply_store, reply_store_of(make_backend))
        assert [each.wait([b"a", b"b"], 0) for each in stores] == [{b"a": b"text"}] * 3

    def test_a_later_reply_replaces_an_earlier_one(self, reply_store: ReplyStore) -> None:
        """With its text and its time to live, even if that is shorter."""
        reply_store.put([Reply(b"a", b"first", SHORT), Reply(b"b", b"first", HOUR), Reply(b"c", b"first", HOUR)])
        reply_store.put([Reply(b"a", b"second", HOUR), Reply(b"b", b"second", SHORT)])

        assert reply_store.wait([b"a"], 0) == {b"a": b"second"}
        wait_until(lambda: not reply_store.wait([b"b"], 0), "the end of the reply")
        assert reply_store.wait([b"a", b"b", b"c"], 0) == {b"a": b"second", b"c": b"first"}

    def test_a_reply_has_any_name_and_text(self, reply_store: ReplyStore) -> None:
        """The text may be empty or long."""
        texts = {name: b"text of " + name for name in NAMES} | {
            b"nothing": b"",
            b"much": bytes(range(256)) * (MAX_REPLY >> 8),
        }
        for name, text in texts.items():
            reply_store.put([Reply(name, text, HOUR)])
            assert reply_store.wait([name], LONG) == {name: text}

        assert reply_store.wait(texts, 0) == texts

    def test_many_replies_are_stored_at_once(self, reply_store: ReplyStore) -> None:
        """And more names are read than exist."""
        names = [b"%d" % number for number in range(3 * MAX_REPLIES)]
        reply_store.put(Reply(name, name, HOUR) for name in names[:MAX_REPLIES])

        assert reply_store.wait(names, LONG) == {name: name for name in names[:MAX_REPLIES]}

    def test_a_wait_ends_with_a_reply(self, reply_store: ReplyStore, make_backend: MakeBackend) -> None:
        """With any of many names, and not with other names."""
        names = [b"%d" % number for number in range(250)]
        waiting = [in_thread(reply_store.wait, some, LONG) for some in (names, names[100:101], [b"x"])]
        writer = reply_store_of(make_backend)
        writer.put([Reply(b"other", b"", HOUR)])
        writer.put([Reply(b"100", b"yes", HOUR)])

        assert [each.result(PATIENCE) for each in waiting[:2]] == [{b"100": b"yes"}] * 2
        assert not waiting[2].done()
        writer.put([Reply(b"x", b"", HOUR)])
        assert waiting[2].result(PATIENCE) == {b"x": b""}

    def test_a_wait_for_replies_ends_after_its_timeout(self, reply_store: ReplyStore) -> None:
        """And not before. The timeout may be 0."""
        assert in_thread(reply_store.wait, [b"a"], 0).result(PATIENCE) == {}
        began = time.monotonic()
        assert reply_store.wait([b"a"], 200) == {}
        assert time.monotonic() - began >= 0.1

    def test_no_reply_of_many_threads_is_lost(self, reply_store: ReplyStore, make_backend: MakeBackend) -> None:
        """While other threads wait for all of them."""
        names = [b"%d" % number for number in range(120)]
        waiting = [in_thread(_collect, each, names) for each in (reply_store, reply_store_of(make_backend))]
        writers = [reply_store, reply_store_of(make_backend), reply_store, reply_store_of(make_backend)]
        writing = [in_thread(_put, writer, names[n :: len(writers)]) for n, writer in enumerate(writers)]

        for each in writing:
            each.result(PATIENCE)
        assert [each.result(PATIENCE) for each in waiting] == [{name: b"text of " + name for name in names}] * 2

    def test_workers_are_registered(self, reply_store: ReplyStore, make_backend: MakeBackend) -> None:
        """Until their time to live ends, and all can read them."""
        assert reply_store.workers() == []
        for worker, time_to_live in ((b"b", HOUR), (b"a", SHORT), (b"a", HOUR), (b"c", HOUR), (b"short", SHORT)):
            reply_store.register(worker, time_to_live)
        reply_store.unregister(b"c")
        reply_store.unregister(b"unknown")

        wait_until(lambda: sorted(reply_store.workers()) == [b"a", b"b"], "the end of the short entry")
        assert sorted(reply_store_of(make_backend).workers()) == [b"a", b"b"]

    def test_a_worker_has_any_name(self, reply_store: ReplyStore) -> None:
        """Unregistering one does not affect the others."""
        for name in NAMES:
            reply_store.register(name, HOUR)
        for count, name in enumerate(NAMES, 1):
            reply_store.unregister(name)

            assert sorted(reply_store.workers()) == sorted(NAMES[count:])


def reply_store_of(make_backend: MakeBackend) -> ReplyStore:
    """Return the reply store of a new backend."""
    reply_store = make_backend().reply_store
    assert reply_store is not None
    return reply_store


def _put(reply_store: ReplyStore, names: Iterable[bytes]) -> None:
    for name in names:
        reply_store.put([Reply(name, b"text of " + name, HOUR)])


def _collect(reply_store: ReplyStore, names: Iterable[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    missing = set(names)
    while missing and (more := reply_store.wait(missing, LONG)):
        found |= more
        missing -= more.keys()
    return found
