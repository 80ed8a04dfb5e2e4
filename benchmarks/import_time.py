"""Measure how much longer ``import dramatiq`` takes with this package: ``python benchmarks/import_time.py [ROUNDS]``.

Each import runs in a process of its own, with and without this package in turns. The process itself measures it, so the
start of Python is excluded. Prints medians; the difference is between the two imports of one round.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

ROUNDS = 101
VARIANTS = {"alone": "import dramatiq", "with": "import dramatiq, dramatiq_abort"}
CODE = "from time import perf_counter as now; begin = now(); {}; print((now() - begin) * 1000)"


def milliseconds(variant: str) -> float:
    # -I: do not import from the source tree.
    words = [sys.executable, "-I", "-c", CODE.format(VARIANTS[variant])]
    return float(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)


def main(rounds: int) -> None:
    for variant in VARIANTS:  # the first run reads the files from disk
        milliseconds(variant)
    found: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for number in range(rounds):
        for variant in sorted(VARIANTS, reverse=number % 2 == 1):
            found[variant].append(milliseconds(variant))
    more = [value - alone for value, alone in zip(found["with"], found["alone"], strict=True)]
    print(f"{'ms to import dramatiq':<58}{statistics.median(found['alone']):10.2f}")
    print(f"{'  more with dramatiq_abort':<58}{statistics.median(more):10.2f}   < 5")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
