"""The command that looks whether all is well."""

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

#: The oldest Redis that will do.
_OLDEST: Final = (6, 2)

#: How far a worker's clock may be from this one, in ms: abort-all compares the two.
_MAX_DIFFERENCE: Final = 1000

#: How often the server is asked, to see how long that takes.
_ROUND_TRIPS: Final = 5


@dataclass
class _Findings:
    """What was found."""

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
@time_option("--timeout", "For how long to wait for the last worker's answer.", default="1s")
@where
def doctor(session: Session, *, timeout: int) -> int:
    """See whether the server, the workers and their clocks are well, and say what to do.

    Exits with 1 when something is wrong.
    """
    backend = session.middleware.backend
    with backend_errors(f"{session.place} does not answer"):
        round_trip = _round_trip(backend)
    found = _Findings(session.place, _here(), round_trip, _server(getattr(backend, "client", None)))
    _look_at_server(found)
    snapshot = inspection.running(session.middleware, timeout=timeout)
    for worker in snapshot.workers:
        _look_at_worker(found, worker, snapshot.asked or 0, timeout)
    if not snapshot.workers:
        found.wrong.append(
            "No worker is there. Start one, with an Abortable of this version; if one runs, it goes by another server "
            "or another namespace: see --url and --namespace, or use --broker."
        )
    _say(session.output, found)
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
    """Return how long it takes to ask something, in ms."""
    took = []
    for _ in range(_ROUND_TRIPS + 1):
        asked = time.monotonic()
        backend.poll(b"doctor")
        took.append((time.monotonic() - asked) * 1000)
    return round(statistics.median(took[1:]), 3)  # the first one connects


def _server(client: Any) -> dict[str, str]:
    """Return what the server says of itself; nothing where it says nothing, or there is none."""
    about: dict[str, Any] = {}
    with suppress(Exception):  # its user need not have the right to ask; if it does not answer, that shows elsewhere
        about = client.info("server") | client.info("memory")
        if "redis_version" not in about:  # of a cluster's nodes, one is as good as another
            about = next(each for each in about.values() if isinstance(each, dict))
    name, version = about.get("server_name", "redis"), about.get("redis_version")
    if "valkey_version" in about:
        name, version = "valkey", about["valkey_version"]
    said = {"name": name, "version": version, "maxmemory": about.get("maxmemory")}
    said["maxmemory_policy"] = about.get("maxmemory_policy")
    return {key: str(value) for key, value in said.items() if version is not None and value is not None}


def _look_at_server(found: _Findings) -> None:
    server = found.server
    if not server:
        found.advice.append("The server does not tell its version: this user has no right to INFO, which is no harm.")
        return
    numbers = tuple(int(number) for number in server["version"].split(".")[:2] if number.isdigit())
    if server["name"] != "valkey" and numbers < _OLDEST:
        found.wrong.append(f"Redis {server['version']} is too old: it must be 6.2 or later, or Valkey.")
    policy = server.get("maxmemory_policy", "noeviction")
    if server.get("maxmemory", "0") != "0" and policy != "noeviction":
        found.advice.append(f"The server's maxmemory-policy is {policy}: with noeviction, no request can be lost.")


def _look_at_worker(found: _Findings, worker: WorkerProcess, asked: int, timeout: int) -> None:
    about = worker.asdict() | {"clock": None}
    found.workers.append(about)
    name = worker.worker
    if worker.version != found.here["dramatiq-abort"]:
        found.advice.append(f"{name} has dramatiq-abort {worker.version}, and here is {__version__}: have one of them.")
    if worker.core == "python" and worker.python.startswith("CPython"):
        found.advice.append(f"{name} has the pure-Python core, which is less exact: see Install in README.md.")
    if worker.now is None or worker.reply_ms is None:
        found.wrong.append(
            f"{name} has not answered within {duration(timeout)}: it is dead, for less than a minute, or cut off, or "
            "too busy. Look into its log, or give it more time with --timeout."
        )
        return
    # It has answered at some time between the question and the answer's arrival: so exact is this, and no more.
    unsure = worker.reply_ms / 2 + 1
    difference = worker.now - (asked + worker.reply_ms / 2)
    about["clock"] = 0 if abs(difference) <= unsure else round(difference)
    if abs(difference) - unsure > _MAX_DIFFERENCE:
        found.wrong.append(
            f"The clock of {name} is {duration(abs(difference))} {'ahead' if difference > 0 else 'behind'}: abort-all "
            "takes messages by their time. Synchronize the clocks."
        )


def _say(output: Output, found: _Findings) -> None:
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
        heads = ["WORKER", "ANSWERED IN", "CLOCK", "DRAMATIQ-ABORT", "CORE", "DRAMATIQ", "PYTHON"]
        output.table(table_of(heads, rows))
    for line in found.wrong:
        output.say(("wrong: ", "red"), cell(line))
    for line in found.advice:
        output.say(("advice: ", "yellow"), cell(line))
    if not found.wrong:
        output.say(("All is well.", "green"))


def _clock(difference: int | None) -> str:
    if difference is None:
        return "?"
    return f"{difference:+} ms" if difference else "the same"
