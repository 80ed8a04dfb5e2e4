"""Check that the gate detects slowdowns, and nothing else: run ``gate.py`` on versions with deliberate slowdowns.

``python benchmarks/planted.py`` slows down the package in one place after the other, and has the gate compare each
version with the unchanged package: the check that belongs to the place must fail. ``python benchmarks/planted.py --same
TIMES`` has it compare two builds of the same code repeatedly: no check may fail.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from builds import built, tree_of
from gate import failures


class Plant(NamedTuple):
    """A change that slows down one place."""

    what: str
    path: str
    #: The text to replace, which occurs once.
    before: str
    #: Its replacement.
    after: str
    #: The check of the gate that must fail.
    fails: str


CORE = "dramatiq_abort/_interrupt.pyx"
SHIELD = "dramatiq_abort/_core/shield.pxi"
HOOKS = "dramatiq_abort/_worker/hooks.pxi"

PLANTS = [
    Plant(
        "a scope looks something up in a dictionary",
        CORE,
        "        self._open()\n        try:",
        "        tokens.get(function)\n        self._open()\n        try:",
        "instructions: scope",
    ),
    Plant(
        "a shield makes a list",
        SHIELD,
        "        scope._shields += 1\n        self._entered = True",
        "        scope._shields += len([scope])\n        self._entered = True",
        "instructions: shield",
    ),
    Plant(
        "an interrupt looks at the frames twice",
        CORE,
        "place == DELIVERS and is_safe(frame, base)\n        ):",
        "place == DELIVERS and is_safe(frame, base) and is_safe(frame, base)\n        ):",
        "instructions: scope_interrupt",
    ),
    Plant(
        "a message is logged below the level that is recorded",
        HOOKS,
        "            self.redelivered[execution] = None\n        PyContextVar_Set(self._current, execution)\n",
        "            self.redelivered[execution] = None\n        PyContextVar_Set(self._current, execution)\n"
        '        self._slow_path._settings.logger.debug("Message %s", message_id)\n',
        "instructions: message",
    ),
    Plant(
        "a message asks the system how long its thread has run",
        HOOKS,
        "            self.redelivered[execution] = None\n        PyContextVar_Set(self._current, execution)\n",
        "            self.redelivered[execution] = None\n        PyContextVar_Set(self._current, execution)\n"
        "        time.thread_time()\n",
        "nanoseconds: message",
    ),
    Plant(
        "a scope records where it was opened",
        CORE,
        "        self._open()\n        try:",
        "        self._open()\n        frames_from(innermost_frame(self._thread))\n        try:",
        "floors",
    ),
]


def planted(plant: Plant, to: Path) -> Path:
    """Copy the working tree, and apply a change to the copy."""
    tree = tree_of(None, to)
    text = (tree / plant.path).read_text(encoding="utf-8")
    assert text.count(plant.before) == 1, f"{plant.path} has changed: choose another place where {plant.what}"
    (tree / plant.path).write_text(text.replace(plant.before, plant.after), encoding="utf-8")
    return tree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--same", type=int, metavar="TIMES", help="compare the package with itself this many times")
    same = parser.parse_args().same
    wrong = []
    with TemporaryDirectory() as directory:
        base = built(tree_of(None, Path(directory, "base")))
        if same is not None:
            head = built(tree_of(None, Path(directory, "head")))
            for number in range(1, same + 1):
                failed = failures(base, head)
                print(f"\nUnchanged, {number} of {same}: {', '.join(failed) or 'nothing'} failed.\n", flush=True)
                wrong += failed
        else:
            for number, plant in enumerate(PLANTS):
                print(f"\nPlanted: {plant.what}.\n", flush=True)
                failed = failures(base, built(planted(plant, Path(directory, f"head{number}"))))
                print(f"\n{plant.fails}: {'detected' if plant.fails in failed else 'NOT DETECTED'}\n", flush=True)
                wrong += [] if plant.fails in failed else [plant.what]
    sys.exit(f"wrong: {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
