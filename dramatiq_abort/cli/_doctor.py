"""The command that checks the installation."""

from __future__ import annotations

import platform
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

import click

from .. import interrupt
from .._client import inspection
from .._version import __version__
from ..backends.errors import backend_errors
from ._command import Command, time_option
from ._output import cell, duration, table_of
from ._session import where

if TYPE_CHECKING:
    from rich.text import Text

    from .._protocol.snapshot import WorkerProcess
    from ._output import Output
    from ._session import Session

__all__ = ["doctor"]

#: The oldest supported version of Redis.
_OLDEST: Final = (6, 2)

#: Maximum difference between a worker's clock and this one, in ms: abort-all compares the two.
_MAX_DIFFERENCE: Final = 1000

#: Number of round trips measured.
_ROUND_TRIPS: Final = 5


@dataclass
class _Findings:
    """The results of the checks."""

    place: str
    here: dict[str, str]
    round_trip: float
    server: dict[str, str]
    workers: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    def asdict(self) -> dict[str, Any]:
        fields = {"ok": not self.wrong, "backend": self.place, "here": self.here, "server": self.server}
        fields |= {"round_trip": self.round_trip, "workers": self.workers}
        return fields | {"wrong": self.wrong, "advice": self.advice}


@click.command("doctor", cls=Command)
@time_option("--timeout", "How long to wait for replies.", default="1s")
@where
def doctor(session: Session, *, timeout: int) -> int:
    """Check the server, the workers and their clocks, and recommend what to do.

    Exits with 1 if there is a problem.
    """
    backend = session.middleware.backend
    with backend_errors(f"{session.place} does not respond"):
        round_trip = _round_trip(backend)
    found = _Findings(session.place, _here(), round_trip, _server(getattr(backend, "client", None)))
    _look_at_server(found)
    snapshot = inspection.running(session.middleware, timeout=timeout)
    for worker in snapshot.workers:
        _look_at_worker(found, worker, snapshot.asked or 0, timeout)
    if not snapshot.workers:
        found.wrong.append(
            "No workers found. Start one with an Abortable of this version. If one is running, it uses another server "
            "or another namespace: check --url and --namespace, or use --broker."
        )
    _print(session.output, found)
    session.output.data(found.asdict())
    return 1 if found.wrong else 0


def _here() -> dict[str, str]:
    versions = {"dramatiq-abort": __version__, "core": interrupt.IMPLEMENTATION}
    versions["python"] = f"{platform.python_implementation()} {platform.python_version()}"
    for name in ("dramatiq", "redis"):
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _round_trip(backend: Any) -> float:
    """Return the median duration of a query, in ms."""
    durations = []
    for _ in range(_ROUND_TRIPS + 1):
        started = time.monotonic()
        backend.poll(b"doctor")
        durations.append((time.monotonic() - started) * 1000)
    return round(statistics.median(durations[1:]), 3)  # the first query connects


def _server(client: Any) -> dict[str, str]:
    """Return the server's name, version and settings; nothing if there is no server or it does not report them."""
    about: dict[str, Any] = {}
    with suppress(Exception):  # the user may lack the right to INFO; an outage is reported elsewhere
        about = client.info("server") | client.info("memory")
        if "redis_version" not in about:  # a cluster: any of its nodes will do
            about = next(each for each in about.values() if isinstance(each, dict))
    name, version = about.get("server_name", "redis"), about.get("redis_version")
    if "valkey_version" in about:
        name, version = "valkey", about["valkey_version"]
    fields = {"name": name, "version": version, "maxmemory": about.get("maxmemory")}
    fields["maxmemory_policy"] = about.get("maxmemory_policy")
    return {key: str(value) for key, value in fields.items() if version is not None and value is not None}


def _look_at_server(found: _Findings) -> None:
    server = found.server
    if not server:
        found.advice.append("The server's version is unknown: this user has no right to INFO. That is harmless.")
        return
    numbers = tuple(int(number) for number in server["version"].split(".")[:2] if number.isdigit())
    if server["name"] != "valkey" and numbers < _OLDEST:
        found.wrong.append(f"Redis {server['version']} is too old. Use Redis 6.2 or later, or Valkey.")
    policy = server.get("maxmemory_policy", "noeviction")
    if server.get("maxmemory", "0") != "0" and policy != "noeviction":
        found.advice.append(f"The server may evict requests: its maxmemory-policy is {policy}. Set it to noeviction.")


def _look_at_worker(found: _Findings, worker: WorkerProcess, asked: int, timeout: int) -> None:
    about = worker.asdict() | {"clock": None}
    found.workers.append(about)
    name = worker.worker
    if worker.version != found.here["dramatiq-abort"]:
        found.advice.append(f"{name} has dramatiq-abort {worker.version}, this machine {__version__}. Use one version.")
    if worker.core == "python" and worker.python.startswith("CPython"):
        found.advice.append(f"{name} has the pure-Python core, which is less exact. See Install in README.md.")
    if worker.now is None or worker.reply_ms is None:
        found.wrong.append(
            f"{name} did not reply within {duration(timeout)}. It died less than a minute ago, is disconnected, or is "
            "too busy. Check its log, or allow more time with --timeout."
        )
        return
    # The worker replied at an unknown time between the question and the arrival of its reply.
    uncertainty = worker.reply_ms / 2 + 1
    difference = worker.now - (asked + worker.reply_ms / 2)
    about["clock"] = 0 if abs(difference) <= uncertainty else round(difference)
    if abs(difference) - uncertainty > _MAX_DIFFERENCE:
        found.wrong.append(
            f"The clock of {name} is {duration(abs(difference))} {'ahead' if difference > 0 else 'behind'}. "
            "Synchronize the clocks: abort-all selects messages by time."
        )


def _print(output: Output, found: _Findings) -> None:
    output.say("here     ", cell(", ".join(f"{name} {version}" for name, version in found.here.items())))
    server = f"{found.server['name']} {found.server['version']}" if found.server else "a server"
    output.say("backend  ", cell(f"{server} at {found.place}, {duration(found.round_trip)} for a round trip"))
    rows: list[list[Text | str]] = [
        [
            cell(about["worker"], "bold"),
            cell("unresponsive", "red") if about["reply_ms"] is None else cell(duration(about["reply_ms"])),
            _clock(about["clock"]),
            *map(cell, (about["version"], about["core"], about["dramatiq"], about["python"])),
        ]
        for about in found.workers
    ]
    if rows:
        heads = ["WORKER", "REPLIED IN", "CLOCK", "DRAMATIQ-ABORT", "CORE", "DRAMATIQ", "PYTHON"]
        output.table(table_of(heads, rows))
    for line in found.wrong:
        output.say(("problem: ", "red"), cell(line))
    for line in found.advice:
        output.say(("advice: ", "yellow"), cell(line))
    if not found.wrong:
        output.say(("No problems found.", "green"))


def _clock(difference: int | None) -> str:
    if difference is None:
        return "?"
    return f"{difference:+} ms" if difference else "in sync"
