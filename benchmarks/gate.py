"""Whether this version has become slower than the one before, told so that it holds on a noisy machine.

``python benchmarks/gate.py`` builds both with the same compiler, and compares them in three ways:

- Floors: ratios inside of one run of the new version, with much room; ``ratios.py`` has them. They tell that something
  has become many times slower, or that the core is not compiled.
- Instructions, counted by valgrind's callgrind: more than 2 % more are too many. For a scope, a shield and an interrupt
  of the compiled core the counts are exact. Those for a message are not quite: a thread waits beside it, and looks up
  now and then. What begins and ends each count is left out, as the difference to one of twice the repetitions.
- Time of a message on a StubBroker: more than 5 % more is too much. That is for what no count shows: the system's
  work, the caches, waiting. The versions take turns of some milliseconds, since the pace of a machine changes from one
  second to the next, and in several pairs of processes, since no two processes have the same pace; what counts is the
  median of all pairs of each pair's median.

Counts are those of one compiler and one interpreter. So no number is written down anywhere, and the old version is
counted anew each time. The exit status is 1 if the new version is too slow.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from builds import built, fork_of, said, tree_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builds import Environment

HERE = Path(__file__).parent

#: What is counted, and what of it is not ours. The message comes last: its thread goes on.
COUNTED = {"scope": "bare_call", "shield": None, "scope_interrupt": "bare_raise", "message": None}

#: How often, and then twice as often: callgrind is some 50 times slower than the processor.
REPETITIONS = 1_000

#: Objects lie elsewhere with each seed for the hashes, and in each new version. CPython finds methods by where their
#: names lie (the method cache in Objects/typeobject.c), and when two get into each other's way there, that costs some
#: tenths of a percent. So what counts is the least of several seeds.
LAYOUTS = 3

#: Pairs of processes, turns in each of them, and messages in a turn.
PAIRS, TURNS, MESSAGES = 7, 60, 2_000

#: How much more is too much, in percent.
INSTRUCTIONS_MARGIN, TIME_MARGIN = 2, 5


class Comparison(NamedTuple):
    """One line of the table."""

    name: str
    base: float
    head: float
    #: How much more is too much, in percent.
    margin: float

    @property
    def more(self) -> float:
        """How much more the new version needs, in percent."""
        return (self.head / self.base - 1) * 100

    @property
    def holds(self) -> bool:
        return self.more <= self.margin

    def __str__(self) -> str:
        numbers = f"{self.base:10.1f}{self.head:10.1f}{self.more:+9.2f} %"
        return f"{self.name:50}{numbers}   <= {self.margin:+} %  {'met' if self.holds else 'NOT MET'}"


def floors_hold(head: Environment) -> bool:
    """Print the ratios of one version, and say whether they are not below their floors."""
    return subprocess.run([sys.executable, HERE / "ratios.py", "--floors"], env=head, check=False).returncode == 0


def instructions(version: Environment) -> dict[str, float]:
    """Count the instructions of one repetition of each operation, less those that are not ours."""
    counts = [_counts(version | {"PYTHONHASHSEED": str(seed)}) for seed in range(LAYOUTS)]
    least = {operation: min(count[operation] for count in counts) for operation in counts[0]}
    return {operation: least[operation] - (least[bare] if bare else 0) for operation, bare in COUNTED.items()}


def _counts(version: Environment) -> dict[str, float]:
    operations = [*filter(None, COUNTED.values()), *COUNTED]
    with TemporaryDirectory() as directory:
        said(
            *("valgrind", "--quiet", "--tool=callgrind", "--dump-before=getppid"),
            f"--callgrind-out-file={directory}/part",
            *(sys.executable, str(HERE / "operations.py"), "count", str(REPETITIONS), *operations),
            env=version,
        )
        totals = [0, *map(total, sorted(Path(directory).glob("part.*"), key=lambda part: int(part.suffix[1:])))]
    # Three parts of each operation: until it begins, so often, and twice as often.
    return {
        operation: (totals[3 * number + 3] - totals[3 * number + 2]) / REPETITIONS
        for number, operation in enumerate(operations)
    }


def total(part: Path) -> int:
    (line,) = (line for line in part.read_text(encoding="utf-8").splitlines() if line.startswith("totals:"))
    return int(line.partition(":")[2])


def compared_counts(base: Environment, head: Environment) -> Iterator[Comparison]:
    """Compare the instructions that each operation takes."""
    of_base, of_head = instructions(base), instructions(head)
    for operation in COUNTED:
        yield Comparison(f"instructions: {operation}", of_base[operation], of_head[operation], INSTRUCTIONS_MARGIN)


@contextmanager
def timer(version: Environment) -> Iterator[Callable[[], float]]:
    """Start a process of this version; what is returned has it measure how many nanoseconds a message takes."""
    words = [sys.executable, str(HERE / "operations.py"), "time", str(MESSAGES), "message"]
    with subprocess.Popen(words, env=version, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        asked, answers = process.stdin, process.stdout
        assert asked is not None
        assert answers is not None

        def nanoseconds() -> float:
            print(file=asked, flush=True)
            return float(answers.readline())

        yield nanoseconds


def compared_times(base: Environment, head: Environment) -> Iterator[Comparison]:
    """Compare the time that a message takes, in nanoseconds of processor time."""
    of_base, ratios = [], []
    for _ in range(PAIRS):
        with timer(base) as old, timer(head) as new:
            turns = []
            for number in range(TURNS):
                found = {version: version() for version in ((old, new) if number % 2 else (new, old))}
                turns.append((found[old], found[new]))
        of_base += [before for before, _ in turns]
        ratios.append(statistics.median(after / before for before, after in turns))
    nanoseconds = statistics.median(of_base)
    yield Comparison("nanoseconds: message", nanoseconds, nanoseconds * statistics.median(ratios), TIME_MARGIN)


def failures(base: Environment, head: Environment) -> list[str]:
    """Compare two versions, print the tables, and return the names of what does not hold."""
    failed = [] if floors_hold(head) else ["floors"]
    print(f"\n{'':50}{'base':>10}{'head':>10}{'more':>11}   limit")
    for comparison in chain(compared_counts(base, head), compared_times(base, head)):
        print(comparison, flush=True)
        if not comparison.holds:
            failed.append(comparison.name)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--base", metavar="BRANCH", default="origin/main", help="compare with where this has left it (origin/main)"
    )
    parser.add_argument("--head", metavar="COMMIT", help="the new version (default: the working tree as it is)")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        parser.error("valgrind is needed")
    commits = {"base": fork_of(options.base), "head": options.head}
    print(f"Comparing with {said('git', 'log', '-1', '--format=%h %s', commits['base'])}", flush=True)
    with TemporaryDirectory() as directory:
        base, head = (built(tree_of(commit, Path(directory, name))) for name, commit in commits.items())
        failed = failures(base, head)
    sys.exit(f"too slow: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
