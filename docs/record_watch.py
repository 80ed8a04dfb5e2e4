"""Record ``ps --watch`` on a terminal as an animated SVG with its own colours: see record_cli.py."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from io import StringIO
from select import select
from typing import TYPE_CHECKING

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

if TYPE_CHECKING:
    from pathlib import Path

LINES, COLUMNS = 10, 112

#: The keys to press, the text to wait for, and how long to show the resulting screen, in seconds.
SCENES = [
    (b"", rb"3 messages on 2 .*q: quit", 2.0),
    (b"\x1b[B", rb"\x1b\[1;7m7b1e2f9a", 1.5),
    (b"a", rb"y: yes", 2.0),
    (b"y", rb"Asked to abort.*q: quit", 0.8),
    (b"", rb"aborting.*Asked to abort.*q: quit", 1.5),
    (b"", rb"2 messages on 2 .*q: quit", 2.5),
]


def record(to: Path) -> None:
    """Run ``ps --watch``, press the keys, and write the animation."""
    terminal, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    env = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"TERM": "xterm"}
    command = ["dramatiq-abort", "ps", "--watch", "--arguments", "--every", "100ms"]
    with subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        frames = [(picture(seen(terminal, keys, until)), seconds) for keys, until, seconds in SCENES]
        os.write(terminal, b"q")
        while process.poll() is None:
            if select([terminal], [], [], 0.01)[0]:
                os.read(terminal, 65536)
    to.write_text(moving(frames), encoding="utf-8")


def seen(terminal: int, keys: bytes, until: bytes) -> str:
    """Press keys, and return the first complete screen that matches the pattern ``until``."""
    os.write(terminal, keys)
    shown = b""
    while True:
        assert select([terminal], [], [], 20)[0], shown
        shown += os.read(terminal, 65536)
        assert len(shown) < 1 << 20, f"{until!r} did not appear"
        for screen in shown.split(b"\x1b[H")[1:-1]:  # the last screen may be incomplete
            if re.search(until, screen, re.DOTALL):
                return screen.decode()


def picture(screen: str) -> str:
    """Return a screen as SVG."""
    console = Console(width=COLUMNS, record=True, file=StringIO(), force_terminal=True)
    for line in screen.split("\r\n"):
        console.print(Text.from_ansi(line), no_wrap=True, overflow="crop")
    svg = console.export_svg(title="dramatiq-abort ps --watch --arguments", theme=MONOKAI, unique_id="watch")
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # so that viewing it fetches no fonts


def moving(frames: list[tuple[str, float]]) -> str:
    """Combine pictures of one size into an animation; readers who prefer no motion see only the third."""
    whole = sum(seconds for _, seconds in frames)
    rules, groups, at = [], [], 0.0
    for number, (svg, seconds) in enumerate(frames):
        begin, end = 100 * at / whole, 100 * (at + seconds) / whole
        before = "" if begin == 0 else "0% { visibility: hidden } "
        during = f"{begin:.2f}% {{ visibility: visible }} {end:.2f}% {{ visibility: hidden }}"
        rules.append(
            f"@keyframes frame-{number} {{ {before}{during} }}"
            f" .frame-{number} {{ visibility: hidden; animation: frame-{number} {whole}s step-end infinite }}"
        )
        # Unique names in each picture.
        inner = svg[svg.index(">") + 1 : svg.rindex("</svg>")].replace("watch-", f"watch-{number}-")
        groups.append(f'<g class="frame-{number}">{inner}</g>')
        at += seconds
    rules.append(
        "@media (prefers-reduced-motion) { g { animation: none !important } .frame-2 { visibility: visible } }"
    )
    head = frames[0][0][: frames[0][0].index(">") + 1]
    moving = f"{head}\n<style>{' '.join(rules)}</style>\n{''.join(groups)}</svg>\n"
    return re.sub(r"\n\s*\n", "\n", re.sub(r"[ \t]+$", "", moving, flags=re.MULTILINE))
