"""Loops that never give up the GIL at a safe point: most of them call nothing."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from contextlib import closing
from functools import partial
from multiprocessing import Queue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The duration of each step in C code, in seconds.
STEP = 0.002


class Slow:
    """Has operators in C code that gives up the GIL, like those of an array."""

    __matmul__ = __imul__ = __getitem__ = __contains__ = __lt__ = time.sleep


slow: Any = Slow()


def steps() -> Iterator[None]:
    """Return an iterator in C, like a file or a cursor."""
    return iter(partial(time.sleep, STEP), 1)


def drain() -> None:
    for _ in steps():
        pass


def keep_the_last() -> None:
    for each in steps():
        last = each  # noqa: F841


def skip_some() -> None:
    for each in steps():
        if each is None:
            continue
        last = each  # noqa: F841


def unpack() -> None:
    for _, _ in zip(steps(), steps(), strict=True):
        pass


def rows_of_a_cursor() -> None:
    total = 0
    numbers = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT x FROM t"
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        for row in connection.execute(numbers):
            total += row[0]


def list_comprehension() -> None:
    [each for each in steps()]  # noqa: C416


def set_comprehension() -> None:
    {each for each in steps()}  # noqa: C416


def dict_comprehension() -> None:
    {each: 1 for each in steps()}  # noqa: C420


def generator_expression() -> None:
    for _ in (each for each in steps()):
        pass


def generator_in_c() -> None:
    sum(1 for _ in steps())


def generator() -> None:
    def numbers() -> Iterator[None]:
        for each in steps():  # noqa: UP028
            yield each

    for _ in numbers():
        pass


def in_a_called_function() -> None:
    drain()


def operator() -> None:
    while True:
        slow @ STEP


def operator_so_many_times() -> None:
    for _ in range(1_000_000):
        slow @ STEP


def operator_in_place() -> None:
    while True:
        product = slow
        product *= STEP


def item() -> None:
    while True:
        slow[STEP]


def condition() -> None:
    while not slow < STEP:
        pass


def condition_in_the_middle() -> None:
    while True:
        if STEP in slow:
            break


def walrus() -> None:
    while (slow @ STEP) is None:
        pass


def branches() -> None:
    is_even = False
    while True:
        if is_even:
            is_even = False
            slow @ STEP
        else:
            is_even = True
            slow[STEP]


def nested() -> None:
    while True:
        for _ in range(3):
            for _ in range(3):
                slow @ STEP


def in_a_with() -> None:
    lock = threading.Lock()
    while True:
        with lock:
            slow @ STEP


def with_around() -> None:
    lock = threading.Lock()
    with lock:
        while True:
            slow @ STEP


def in_a_try() -> None:
    while True:
        try:
            slow @ STEP
        except ValueError:
            pass


def in_a_try_with_finally() -> None:
    while True:
        try:
            slow @ STEP
        finally:
            done = True  # noqa: F841


def try_around() -> None:
    try:
        while True:
            slow @ STEP
    except ValueError:
        pass


def in_the_handler() -> None:
    while True:
        try:
            int("x")
        except ValueError:
            slow @ STEP


def calls_that_fail_and_go_on() -> None:
    empty: Queue[None] = Queue()
    while True:
        try:
            empty.get(timeout=STEP)
        except queue.Empty:
            continue


def calls_that_fail() -> None:
    empty: Queue[None] = Queue()
    while True:
        try:
            empty.get(timeout=STEP)
        except queue.Empty:
            pass


def calls_that_fail_so_many_times() -> None:
    empty: Queue[None] = Queue()
    for _ in range(1_000_000):
        try:
            empty.get(timeout=STEP)
        except queue.Empty:
            pass


LOOPS = [
    *(drain, keep_the_last, skip_some, unpack, rows_of_a_cursor),
    *(list_comprehension, set_comprehension, dict_comprehension, generator_expression, generator_in_c, generator),
    *(in_a_called_function, operator, operator_so_many_times, operator_in_place, item, condition),
    *(condition_in_the_middle, walrus, branches, nested, in_a_with, with_around, in_a_try, in_a_try_with_finally),
    *(try_around, in_the_handler, calls_that_fail_and_go_on, calls_that_fail, calls_that_fail_so_many_times),
]

#: Loops that the pure-Python core cannot end before CPython 3.12: every call ends in an exception from protected code.
ENDLESS_CALLS = {calls_that_fail_and_go_on, calls_that_fail, calls_that_fail_so_many_times}

#: More such loops on 3.10, which does not look at the slot when it jumps to a try statement.
ENDLESS_TRIES = {in_a_try, in_a_try_with_finally, in_the_handler}
