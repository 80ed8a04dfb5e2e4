"""What workers have put up is there for those who have asked."""

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

__all__ = ["Boards"]

#: Any bytes can be a name, and each is another one.
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


class Boards(Fixtures):
    """``board``: notes, and the roll."""

    def test_a_note_is_there_for_all(self, board: ReplyStore, make_backend: MakeBackend) -> None:
        """Reading does not take it off."""
        assert board.wait([b"a", b"b"], 0) == {}

        board.put([Reply(b"a", b"text", HOUR), Reply(b"c", b"other", HOUR)])

        assert [each.wait([b"a", b"b"], 0) for each in (board, board, board_of(make_backend))] == [{b"a": b"text"}] * 3

    def test_a_later_note_takes_the_earlier_ones_place(self, board: ReplyStore) -> None:
        """With its text and its time, however short."""
        board.put([Reply(b"a", b"first", SHORT), Reply(b"b", b"first", HOUR), Reply(b"c", b"first", HOUR)])
        board.put([Reply(b"a", b"second", HOUR), Reply(b"b", b"second", SHORT)])

        assert board.wait([b"a"], 0) == {b"a": b"second"}
        wait_until(lambda: not board.wait([b"b"], 0), "the end of the note")
        assert board.wait([b"a", b"b", b"c"], 0) == {b"a": b"second", b"c": b"first"}

    def test_a_note_says_anything(self, board: ReplyStore) -> None:
        """Under any name, and much."""
        texts = {name: b"says " + name for name in NAMES} | {
            b"nothing": b"",
            b"much": bytes(range(256)) * (MAX_REPLY >> 8),
        }
        for name, text in texts.items():
            board.put([Reply(name, text, HOUR)])
            assert board.wait([name], LONG) == {name: text}

        assert board.wait(texts, 0) == texts

    def test_many_notes_are_put_up_at_once(self, board: ReplyStore) -> None:
        """And many are asked for, of which not all are there."""
        names = [b"%d" % number for number in range(3 * MAX_REPLIES)]
        board.put(Reply(name, name, HOUR) for name in names[:MAX_REPLIES])

        assert board.wait(names, LONG) == {name: name for name in names[:MAX_REPLIES]}

    def test_who_waits_hears_of_it(self, board: ReplyStore, make_backend: MakeBackend) -> None:
        """Of any of many names, and not of others."""
        names = [b"%d" % number for number in range(250)]
        waiting = [in_thread(board.wait, some, LONG) for some in (names, names[100:101], [b"x"])]
        poster = board_of(make_backend)
        poster.put([Reply(b"other", b"", HOUR)])
        poster.put([Reply(b"100", b"yes", HOUR)])

        assert [each.result(PATIENCE) for each in waiting[:2]] == [{b"100": b"yes"}] * 2
        assert not waiting[2].done()
        poster.put([Reply(b"x", b"", HOUR)])
        assert waiting[2].result(PATIENCE) == {b"x": b""}

    def test_a_wait_for_notes_ends_with_its_time(self, board: ReplyStore) -> None:
        """And takes it; it may have none."""
        assert in_thread(board.wait, [b"a"], 0).result(PATIENCE) == {}
        began = time.monotonic()
        assert board.wait([b"a"], 200) == {}
        assert time.monotonic() - began >= 0.1

    def test_nothing_is_lost_when_many_post(self, board: ReplyStore, make_backend: MakeBackend) -> None:
        """In many threads, while others wait for all of it."""
        names = [b"%d" % number for number in range(120)]
        waiting = [in_thread(_collect, each, names) for each in (board, board_of(make_backend))]
        posters = [board, board_of(make_backend), board, board_of(make_backend)]
        posting = [in_thread(_post, poster, names[n :: len(posters)]) for n, poster in enumerate(posters)]

        for each in posting:
            each.result(PATIENCE)
        assert [each.result(PATIENCE) for each in waiting] == [{name: b"says " + name for name in names}] * 2

    def test_the_roll(self, board: ReplyStore, make_backend: MakeBackend) -> None:
        """Those are on it who have said so not long ago, for all to see."""
        assert board.workers() == []
        for worker, time_to_live in ((b"b", HOUR), (b"a", SHORT), (b"a", HOUR), (b"c", HOUR), (b"short", SHORT)):
            board.register(worker, time_to_live)
        board.unregister(b"c")
        board.unregister(b"nobody")

        wait_until(lambda: sorted(board.workers()) == [b"a", b"b"], "the end of the short entry")
        assert sorted(board_of(make_backend).workers()) == [b"a", b"b"]

    def test_a_worker_has_any_name(self, board: ReplyStore) -> None:
        """Who leaves takes nobody along."""
        for name in NAMES:
            board.register(name, HOUR)
        for count, name in enumerate(NAMES, 1):
            board.unregister(name)

            assert sorted(board.workers()) == sorted(NAMES[count:])


def board_of(make_backend: MakeBackend) -> ReplyStore:
    """Return the board of one more backend."""
    board = make_backend().reply_store
    assert board is not None
    return board


def _post(board: ReplyStore, names: Iterable[bytes]) -> None:
    for name in names:
        board.put([Reply(name, b"says " + name, HOUR)])


def _collect(board: ReplyStore, names: Iterable[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    missing = set(names)
    while missing and (more := board.wait(missing, LONG)):
        found |= more
        missing -= more.keys()
    return found
