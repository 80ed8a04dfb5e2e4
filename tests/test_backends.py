"""What every event backend does, for all of ours."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from support import wait_until, wait_until_it_waits
from ways import PROGRAMS, kinds

from dramatiq_abort import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from dramatiq_abort import EventBackend

LONG = 60_000


first, others = [*PROGRAMS][:1], [*PROGRAMS][1:]
# Every way to the first server program in which other words go to and fro, and the plain way to the others.
ways = ["plain", "resp2", "resp3", "decode", "limited", "cluster", "sentinel"]
pytestmark = pytest.mark.parametrize(
    "make_backend", ["stub", *kinds(first, ways), *kinds(others, ["plain"])], indirect=True
)


def test_a_signal_can_be_polled_by_all(make_backend: Callable[[], EventBackend]) -> None:
    """It is not consumed, and other keys are not touched."""
    one, other = make_backend(), make_backend()

    one.notify(b"a", LONG)

    assert [one.poll(b"a"), one.poll(b"a"), other.poll(b"a"), one.poll(b"b")] == [True, True, True, False]


def test_a_signal_ends_with_its_time_to_live(backend: EventBackend) -> None:
    """A tombstone is not for ever."""
    backend.notify(b"a", 20)

    wait_until(lambda: not backend.poll(b"a"), "the end of the time to live")

    assert backend.read(b"a") is None
    assert backend.wait_many([b"a"], 1) is None


def test_a_waiting_backend_hears_of_a_signal(make_backend: Callable[[], EventBackend]) -> None:
    """Every one of them, whoever makes it."""
    backends = [make_backend() for _ in range(3)]
    if len({id(backend) for backend in backends}) == 1:
        backends = backends[:1]  # each signal is handed out once per backend object
    heard: list[bytes | None] = []
    threads = [
        threading.Thread(
            target=lambda backend=backend: heard.append(backend.wait_many([b"a", b"b"], LONG)), daemon=True
        )
        for backend in backends
    ]
    for thread in threads:
        thread.start()

    make_backend().notify(b"b", LONG)
    for thread in threads:
        thread.join(10)

    assert heard == [b"b"] * len(backends)


def test_a_signal_is_handed_out_once(backend: EventBackend) -> None:
    """Also one that was made before anybody waited; and once more when it is made again."""
    backend.notify(b"a", LONG)
    backend.notify(b"b", LONG)

    assert {backend.wait_many([b"a", b"b"], 100), backend.wait_many([b"a", b"b"], 100)} == {b"a", b"b"}
    assert backend.wait_many([b"a", b"b"], 1) is None
    backend.notify(b"a", LONG)
    assert backend.wait_many([b"a", b"b"], LONG) == b"a"


def test_a_signal_waits_for_somebody_who_wants_it(backend: EventBackend) -> None:
    """A key that is not waited for now can be later."""
    backend.notify(b"a", LONG)

    assert backend.wait_many([b"b"], 20) is None
    assert backend.wait_many([b"b", b"a"], LONG) == b"a"


def test_the_keys_may_grow_while_it_waits(make_backend: Callable[[], EventBackend]) -> None:
    """A message that starts a moment ago is covered, without a word to the backend."""
    backend = make_backend()
    keys: set[bytes] = set()
    heard: list[bytes | None] = []
    thread = threading.Thread(target=lambda: heard.append(backend.wait_many(keys, LONG)), daemon=True)
    thread.start()

    keys.add(b"a")
    make_backend().notify(b"a", LONG)
    thread.join(10)

    assert heard == [b"a"]


def test_a_waiting_backend_can_be_woken(make_backend: Callable[[], EventBackend]) -> None:
    """A worker that stops need not wait for the time-out; and the next wait is a whole one."""
    backend = make_backend()
    for _ in range(3):
        heard: list[bytes | None] = []
        thread = threading.Thread(target=lambda heard=heard: heard.append(backend.wait_many([b"a"], LONG)), daemon=True)
        thread.start()
        wait_until_it_waits(thread)
        backend.wake()
        thread.join(10)
        assert heard == [None]

    make_backend().notify(b"a", LONG)
    assert backend.wait_many([b"a"], LONG) == b"a"


def test_an_event_carries_a_value_and_its_time(make_backend: Callable[[], EventBackend]) -> None:
    """To those who hear of it and to those who ask."""
    backend = make_backend()
    value = bytes(range(256))

    make_backend().signal([Event(b"a", value, LONG), Event(b"b", ttl=LONG)])

    for reader in (backend, make_backend()):
        reader.wait_many([b"a"], 100)
        event = reader.read(b"a")
        assert event is not None
        assert (event.key, event.value) == (b"a", value)
        assert event.ttl is not None
        assert LONG - 10_000 < event.ttl <= LONG
        plain = reader.read(b"b")
        assert plain is not None
        assert plain.value == b""
        assert reader.read(b"c") is None


def test_a_later_event_takes_the_earlier_ones_place(make_backend: Callable[[], EventBackend]) -> None:
    """Its value counts."""
    backend = make_backend()
    backend.signal([Event(b"a", b"one", LONG)])
    assert backend.wait_many([b"a"], 100) == b"a"

    backend.signal([Event(b"a", b"two", LONG)])
    assert backend.wait_many([b"a"], LONG) == b"a"
    event = backend.read(b"a")

    assert event is not None
    assert event.value == b"two"


def test_a_weaker_event_does_not_take_a_stronger_ones_place(make_backend: Callable[[], EventBackend]) -> None:
    """The one that says nothing says the most; and one that calls itself weak gives way to all (3.5)."""
    backend = make_backend()
    backend.signal([Event(b"plain", b"", LONG), Event(b"valued", b"one", LONG)])

    backend.signal([Event(b"plain", b"two", 1), Event(b"valued", b"two", LONG, priority=-1)])
    plain, valued = backend.read(b"plain"), backend.read(b"valued")
    backend.signal([Event(b"valued", b"", LONG), Event(b"new", b"three", LONG, priority=-1)])
    escalated, new = backend.read(b"valued"), backend.read(b"new")

    assert plain is not None
    assert plain.ttl is not None
    assert (plain.value, plain.ttl > LONG / 2) == (b"", True)
    assert [event and event.value for event in (valued, escalated, new)] == [b"one", b"", b"three"]


def test_many_events_are_signaled_at_once(make_backend: Callable[[], EventBackend]) -> None:
    """More than fit into one step."""
    backend = make_backend()
    keys = {b"%d" % number for number in range(2_500)}

    make_backend().signal(Event(key, ttl=LONG) for key in keys)
    heard = {backend.wait_many(keys, 1_000) for _ in keys}

    assert heard == keys


def test_a_signal_can_be_taken_back(make_backend: Callable[[], EventBackend]) -> None:
    """And it is said whether there was one; those who wait do not hear of it."""
    backend = make_backend()
    backend.signal([Event(b"a", b"value", LONG)])

    assert make_backend().revoke(b"a") is True
    assert make_backend().revoke(b"a") is False
    assert backend.wait_many([b"a"], 1) is None
    assert not backend.poll(b"a")
    backend.notify(b"a", LONG)
    event = backend.read(b"a")
    assert event is not None
    assert event.value == b""
