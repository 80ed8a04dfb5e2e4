"""Abort requests as bytes, and message ids as keys."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dramatiq_abort import AbortMode, AbortRequest, InvalidRequest
from dramatiq_abort._protocol.request import MAX_KEY, MAX_TEXT, MAX_TIME, MAX_VALUE, key_of

times = st.integers(0, MAX_TIME)
positive = st.integers(1, MAX_TIME)
texts = st.none() | st.text(min_size=1, max_size=MAX_TEXT)
requests = st.builds(
    AbortRequest, st.sampled_from(AbortMode), positive, times, st.none() | positive, reason=texts, by=texts
)


@settings(deadline=None)
@given(requests)
def test_a_request_comes_back_from_its_bytes(request: AbortRequest) -> None:
    """Decoding an encoded request returns the same request."""
    assert AbortRequest.decode(request.encode()) == request


@settings(deadline=None)
@given(times)
def test_a_plain_abort_needs_no_bytes(ttl: int) -> None:
    """A plain abort is empty: it costs little memory, and backends without values can carry it."""
    assert AbortRequest(ttl=ttl).encode() == b""
    assert AbortRequest.decode(b"") == AbortRequest()


def test_fields_of_a_later_version_are_ignored() -> None:
    """Unknown fields of later versions are ignored, so that their aborts are not lost."""
    assert AbortRequest.decode(b'{"mode":"cancel","colour":"red"}') == AbortRequest(AbortMode.CANCEL)


@pytest.mark.parametrize(
    "value",
    [
        b"abort",
        b"[]",
        b"1",
        b"null",
        b"\xff\xfe",
        b"{",
        b'{"mode":"stop"}',
        b'{"mode":["abort"]}',
        b'{"grace":-1}',
        b'{"grace":1.5}',
        b'{"grace":true}',
        b'{"grace":"1"}',
        b'{"grace":1e400}',
        b'{"repeat":-1}',
        b'{"repeat":[]}',
        b'{"grace":NaN}',
        b'{"ttl":%d}' % (MAX_TIME + 1),
        b"[" * MAX_VALUE,
        b'{"mode":"abort"}' + b" " * MAX_VALUE,
        b'{"grace":' + b"9" * 4000 + b"0}",
    ],
)
def test_what_is_no_request_is_refused(value: bytes) -> None:
    """Invalid requests raise our error, which names the problem."""
    with pytest.raises(InvalidRequest):
        AbortRequest.decode(value)


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_a_request_or_refused(value: bytes) -> None:
    """Any bytes either decode to a request or raise our error."""
    try:
        request = AbortRequest.decode(value)
    except InvalidRequest:
        return
    assert isinstance(request.mode, AbortMode)


@pytest.mark.parametrize(
    ("grace", "ttl", "ttl_left", "left"),
    [
        (5_000, 90_000, 90_000, 5_000),
        (5_000, 90_000, 88_000, 3_000),
        (5_000, 90_000, 10, 0),
        (5_000, 90_000, 95_000, 5_000),
    ],
)
def test_the_grace_that_is_left_follows_from_the_time_to_live(grace: int, ttl: int, ttl_left: int, left: int) -> None:
    """The remaining grace period follows from the time to live, so no two clocks are compared."""
    assert AbortRequest(grace=grace, ttl=ttl).grace_left(ttl_left) == left


@settings(deadline=None)
@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=100),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=100),
)
def test_each_message_id_has_a_key_of_its_own(one: str, other: str) -> None:
    """Different message ids have different keys."""
    assert (key_of(one) == key_of(other)) == (one == other)


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        (None, TypeError, "message.message_id"),
        (7, TypeError, "message.message_id"),
        (b"id", TypeError, "message.message_id"),
        ("", ValueError, "1 to 506 bytes"),
        ("x" * 507, ValueError, "1 to 506 bytes"),
        ("\ud800", ValueError, "UTF-8"),
    ],
)
def test_what_is_no_message_id_is_refused(wrong: object, error: type[Exception], match: str) -> None:
    """An invalid message id raises an error that says what to pass."""
    with pytest.raises(error, match=match):
        key_of(wrong)  # type: ignore[arg-type]


def test_the_longest_message_id_has_the_longest_key() -> None:
    assert len(key_of("x" * 506)) == MAX_KEY


class Encodes:
    """Has an ``encode`` method, like strings."""

    def encode(self) -> str:
        return "no bytes"


@pytest.mark.parametrize("message_id", [None, 1, b"id", ["id"], {"id": 1}, Encodes()])
def test_what_is_no_string_is_no_message_id(message_id: object) -> None:
    """A message id that is not a string has no key: foreign programs may enqueue anything."""
    with pytest.raises(TypeError, match="a message id must be a str"):
        key_of(message_id)  # type: ignore[arg-type]
