"""What the core costs, beside what else could be done, in one run on one machine, and what it may cost.

``python benchmarks/ratios.py`` measures single operations in turns, and prints the numbers, their targets and whether
they are met. With ``--floors`` it is a part of ``gate.py``: ratios alone, with limits that leave room for a noisy
machine and for other compilers, to see that the core is compiled and nothing has become many times slower; the exit
status says whether they hold.

What is compared, each less the bare call, the bare exception or the bare taking out:

- *A scope*: a call in one, and in one of the pure core's.
- *An interrupt, and all that follows*: a call raises an exception in its own thread, by dramatiq's
  ``raise_thread_exception`` or by interrupting the scope that it runs in. In both cases it comes up in that call and is
  caught around it; the scope's opening and closing count.
- *An interrupt, the setting alone*: the same two functions, for another thread, which waits for a lock. In both cases
  what they have put into that thread's slot is taken out again.
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

#: How long the turn of one operation is, in nanoseconds: a machine that changes its pace does so more slowly.
TURN = 1e6

#: Whether an interrupt has the thread's code watched (``sys.monitoring``), too; dramatiq's does as little as ever.
FOLLOWS = sys.version_info >= (3, 13)


class Ns(dict[str, float]):
    """The nanoseconds of one round, by operation."""

    def over(self, operation: str, bare: str) -> float:
        return self[operation] - self[bare]


class Number(NamedTuple):
    """One line of the table."""

    name: str
    #: Works it out for one round; the median of all rounds is what counts.
    of: Callable[[Ns], float]
    #: What it should be, or None.
    target: float | None
    #: What it must be, or None.
    floor: float | None
    #: These are the most that it may be, and not the least.
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
    """Measure all in turns."""
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
        "--floors", action="store_true", help="hold the numbers to their floors, and not to their targets"
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
