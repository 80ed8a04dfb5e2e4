"""Compare the cost of the core with its alternatives, in one run on one machine, and with targets.

``python benchmarks/ratios.py`` measures single operations in turns, and prints the numbers, their targets and whether
they are met. ``gate.py`` runs it with ``--floors``: only the ratios, with limits that allow for a noisy machine and for
other compilers, to check that the core is compiled and that no operation has become many times slower. The exit status
is then 1 if a limit is not met.

The comparisons, each after subtracting the bare call, the bare exception or the bare emptying of the slot:

- *A scope*: a call in a scope, with the compiled core and with the pure-Python core.
- *An interrupt, and all that follows*: a call raises an exception in its own thread, by dramatiq's
  ``raise_thread_exception`` or by interrupting its own scope. In both cases the exception is raised in that call and
  caught around it; opening and closing the scope count.
- *An interrupt, the setting alone*: the same two functions, for another thread, which waits for a lock. In both cases
  the exception is taken out of that thread's slot again.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import TYPE_CHECKING, NamedTuple

import operations as of
from operations import nanoseconds, prepared

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 60

#: The length of an operation's turn, in nanoseconds: shorter than the periods in which a machine's speed changes.
TURN = 1e6

#: Whether an interrupt also watches the thread's code (``sys.monitoring``), which dramatiq's function never does.
FOLLOWS = sys.version_info >= (3, 13)


class Ns(dict[str, float]):
    """The nanoseconds of one round, by operation."""

    def over(self, operation: str, bare: str) -> float:
        return self[operation] - self[bare]


class Number(NamedTuple):
    """One line of the table."""

    name: str
    #: Computes the number for one round; the result is the median of all rounds.
    of: Callable[[Ns], float]
    #: The value to reach, or None.
    target: float | None
    #: The value that the gate requires, or None.
    floor: float | None
    #: Whether these are upper limits, not lower ones.
    is_most: bool = False


NUMBERS = [
    Number("a scope adds to a call, in ns", lambda ns: ns.over("scope", "call"), 150, None, is_most=True),
    Number("  in calls", lambda ns: ns.over("scope", "call") / ns["call"], None, 10, is_most=True),
    Number(
        "  times cheaper than the pure core's",
        lambda ns: ns.over("pure scope", "call") / ns.over("scope", "call"),
        5,
        5,
    ),
    Number("a shield: times cheaper than the pure core's", lambda ns: ns["pure shield"] / ns["shield"], None, 5),
    Number(
        "an interrupt, and all that follows: times cheaper than dramatiq's",
        lambda ns: ns.over("dramatiq's interrupt", "raise") / ns.over("interrupt", "raise"),
        8,
        0.05 if FOLLOWS else 0.4,
    ),
    Number(
        "  times cheaper than the pure core's",
        lambda ns: ns.over("pure interrupt", "raise") / ns.over("interrupt", "raise"),
        None,
        1,
    ),
    Number(
        "an interrupt, the setting alone: times cheaper than dramatiq's",
        lambda ns: ns.over("dramatiq's setting", "taking out") / ns.over("setting", "taking out"),
        8,
        0.04 if FOLLOWS else 0.5,
    ),
]


def measured() -> list[Ns]:
    """Measure all operations in turns."""
    operations = {
        "call": prepared(of.bare_call),
        "scope": prepared(of.scope),
        "pure scope": prepared(of.scope, "python"),
        "shield": prepared(of.shield),
        "pure shield": prepared(of.shield, "python"),
        "raise": prepared(of.bare_raise),
        "interrupt": prepared(of.scope_interrupt),
        "pure interrupt": prepared(of.scope_interrupt, "python"),
        "dramatiq's interrupt": prepared(of.dramatiq_interrupt),
        "taking out": prepared(of.bare_taking_out),
        "setting": prepared(of.scope_setting),
        "dramatiq's setting": prepared(of.dramatiq_setting),
    }
    times = {name: max(100, int(TURN / nanoseconds(repeated, 100))) for name, repeated in operations.items()}
    return [
        Ns({name: nanoseconds(repeated, times[name]) for name, repeated in operations.items()}) for _ in range(ROUNDS)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--floors", action="store_true", help="compare the numbers with their floors, not their targets"
    )
    floors = parser.parse_args().floors
    rounds = measured()
    all_hold = True
    print(f"{'':70}{'number':>9}   {'floor' if floors else 'target'}")
    for number in NUMBERS:
        limit = number.floor if floors else number.target
        value = statistics.median(map(number.of, rounds))
        verdict = ""
        if limit is not None:
            holds = value <= limit if number.is_most else value >= limit
            all_hold = all_hold and holds
            verdict = f"{'<=' if number.is_most else '>='} {limit:<6g}{'met' if holds else 'NOT MET'}"
        print(f"{number.name:70}{value:9.2f}   {verdict}".rstrip())
    sys.exit(floors and not all_hold)


if __name__ == "__main__":
    main()
