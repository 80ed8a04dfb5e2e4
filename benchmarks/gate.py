"""Check that this version is not slower than the one before, in a way that is reliable on a noisy machine.

``python benchmarks/gate.py`` builds both versions with the same compiler, and compares them in three ways:

- Floors: generous limits for ratios within one run of the new version (``ratios.py``). They detect that an operation
  has become many times slower, or that the core is not compiled.
- Instructions, counted by valgrind's callgrind: an increase of more than 2 % fails. The counts are exact for a scope, a
  shield and an interrupt of the compiled core. Those of a message are not quite exact, because another thread waits
  meanwhile and wakes up now and then. The difference between a run and one of twice the repetitions excludes what
  begins and ends each count.
- The time of a message on a StubBroker: an increase of more than 5 % fails. It includes what no count shows: system
  calls, caches and waiting. The versions take turns of some milliseconds, because the speed of a machine changes from
  one second to the next, in several pairs of processes, because no two processes run at the same speed. The result is
  the median over all pairs of each pair's median.

Counts depend on the compiler and the interpreter. So no number is stored, and the old version is counted again each
time. The exit status is 1 if the new version is too slow.
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

#: The operations to count, with those whose counts are subtracted. The message is last: its thread never ends.
COUNTED = {"scope": "bare_call", "shield": None, "scope_interrupt": "bare_raise", "message": None}

#: The repetitions, which are then doubled: callgrind is some 50 times slower than the processor.
REPETITIONS = 1_000

#: The number of hash seeds. The addresses of objects differ with each seed, and in each new version. CPython looks up
#: methods by the addresses of their names (the method cache in Objects/typeobject.c), and a collision there costs some
#: tenths of a percent. So the smallest count of several seeds is used.
LAYOUTS = 3

#: Pairs of processes, turns per pair, and messages per turn.
PAIRS, TURNS, MESSAGES = 7, 60, 2_000

#: The largest accepted increase, in percent.
INSTRUCTIONS_MARGIN, TIME_MARGIN = 2, 5


class Comparison(NamedTuple):
    """One line of the table."""

    name: str
    base: float
    head: float
    #: The largest accepted increase, in percent.
    margin: float

    @property
    def more(self) -> float:
        """The increase in the new version, in percent."""
        return (self.head / self.base - 1) * 100

    @property
    def holds(self) -> bool:
        return self.more <= self.margin

    def __str__(self) -> str:
        numbers = f"{self.base:10.1f}{self.head:10.1f}{self.more:+9.2f} %"
        return f"{self.name:50}{numbers}   <= {self.margin:+} %  {'met' if self.holds else 'NOT MET'}"


def floors_hold(head: Environment) -> bool:
    """Print the ratios of a version, and return whether all of them reach their floors."""
    return subprocess.run([sys.executable, HERE / "ratios.py", "--floors"], env=head, check=False).returncode == 0


def instructions(version: Environment) -> dict[str, float]:
    """Return the instructions per repetition of each operation, minus those of its bare counterpart."""
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
    # Three parts of each operation: up to its beginning, the repetitions, and twice the repetitions.
    return {
        operation: (totals[3 * number + 3] - totals[3 * number + 2]) / REPETITIONS
        for number, operation in enumerate(operations)
    }


def total(part: Path) -> int:
    (line,) = (line for line in part.read_text(encoding="utf-8").splitlines() if line.startswith("totals:"))
    return int(line.partition(":")[2])


def compared_counts(base: Environment, head: Environment) -> Iterator[Comparison]:
    """Compare the instructions of each operation."""
    of_base, of_head = instructions(base), instructions(head)
    for operation in COUNTED:
        yield Comparison(f"instructions: {operation}", of_base[operation], of_head[operation], INSTRUCTIONS_MARGIN)


@contextmanager
def timer(version: Environment) -> Iterator[Callable[[], float]]:
    """Start a process of a version, and return a function that has it measure the nanoseconds per message."""
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
    """Compare the nanoseconds of processor time per message."""
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
    """Compare two versions, print the tables, and return the names of the failed comparisons."""
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
        "--base", metavar="BRANCH", default="origin/main", help="compare with where HEAD left BRANCH (origin/main)"
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
