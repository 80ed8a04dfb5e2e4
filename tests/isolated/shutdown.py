"""End an interpreter while aborts are pending: ``python shutdown.py CORE``. Prints nothing."""

from __future__ import annotations

import atexit
import importlib
import random
import sys
import threading
import time

core = importlib.import_module(sys.argv[1])
scopes = []
storm = [None] * 4
END = 0.05  # in about this many seconds


class Stop(BaseException):
    """The exception that interrupts the scopes."""


class Protected:
    """Sleeps in protected code."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __enter__(self):
        time.sleep(self.seconds)

    def __exit__(self, *_): ...


def in_shield(scope, seconds):
    with scope.shield():
        time.sleep(seconds)


def in_loop():
    while True:
        str(1)


def run(scope, function, *args):
    try:
        scope.run(function, args)
    except Stop:
        pass


def start(function, *args):
    threading.Thread(target=function, args=args, daemon=True).start()


def scope_after_scope(number):
    while True:
        storm[number] = core.Scope()
        run(storm[number], sum, range(random.randrange(1000)))


def interrupt_all(scopes):
    for scope in scopes:
        if scope is not None:
            scope.interrupt(Stop)
            scope.interrupt(Stop)


def interrupt_for_ever():
    while True:
        interrupt_all(storm)


# Some never wake up, and some wake up when the interpreter ends.
for seconds in (600, END * random.random() * 2, END * random.random() * 2):
    plain, protected, shielded = core.Scope(), core.Scope(), core.Scope()
    scopes += plain, protected, shielded
    start(run, plain, time.sleep, seconds)
    start(run, protected, Protected(seconds).__enter__)
    start(run, shielded, in_shield, shielded, seconds)
not_yet = core.Scope()
start(run, not_yet, in_loop)
for number in range(len(storm)):
    start(scope_after_scope, number)
start(interrupt_for_ever)
atexit.register(interrupt_all, [*scopes, not_yet])
interrupt_all(scopes)


def main():
    time.sleep(END)
    sys.exit()


core.Scope().run(main)
