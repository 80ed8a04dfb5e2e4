"""Bars as SVG, which can be read in light and in dark."""

from __future__ import annotations

import math
from html import escape
from typing import NamedTuple

__all__ = ["Bar", "chart"]

WIDTH = 720
#: Where the bars begin, where they end at the most, and how high one is with the room below it.
LEFT, RIGHT, ROW = 190, 590, 24
TOP = 64

STYLE = """\
svg { color-scheme: light dark; --paper: #ffffff; --line: #d5dae1; --ink: #1b1f24; --faint: #57606a; --here: #0b62c4;
      --other: #b3561e; --limit: #8a94a3 }
@media (prefers-color-scheme: dark) {
  svg { --paper: #16191d; --line: #39414b; --ink: #e8ebef; --faint: #a9b2bd; --here: #6cb2ff; --other: #ff9f6b;
        --limit: #8a94a3 }
}
text { font: 13px system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; fill: var(--ink) }
.title { font-weight: 600; font-size: 15px }
.faint { fill: var(--faint) }
.paper { fill: var(--paper) }
.grid { stroke: var(--line) }
.rest { opacity: 0.35 }"""


class Bar(NamedTuple):
    """One bar.

    Parameters:
      group: What it is about; empty: what the one before is about.
      name: Whose it is.
      value: How long it is.
      up_to: Up to where a fainter one goes on; None: there is none.
    """

    group: str
    name: str
    value: float
    up_to: float | None = None


def chart(title: str, bars: list[Bar], *, logarithmic: bool = False) -> str:
    """Draw the bars below each other. Each name has its colour, in the order in which they come."""
    ticks = _ticks(max(bar.up_to or bar.value for bar in bars), logarithmic=logarithmic)
    least = ticks[0]

    def place(value: float) -> float:
        most = ticks[-1]
        part = math.log(max(value, least) / least) / math.log(most / least) if logarithmic else value / most
        return LEFT + part * (RIGHT - LEFT)

    colours = dict(zip(dict.fromkeys(bar.name for bar in bars), ("here", "other", "limit"), strict=False))
    lines, y = [], float(TOP)
    for bar in bars:
        if bar.group:
            y += 26
            lines.append(f'<text x="16" y="{y - 7:g}">{escape(bar.group)}</text>')
        fill = f'fill="var(--{colours[bar.name]})"'
        begin, end = LEFT, place(bar.value)
        lines.append(f'<text class="faint" x="{LEFT - 8}" y="{y + 13:g}" text-anchor="end">{escape(bar.name)}</text>')
        lines.append(f'<rect x="{begin}" y="{y:g}" width="{max(1.0, end - begin):.1f}" height="17" {fill}/>')
        text = _number(bar.value) if logarithmic else f"{bar.value:.2f}"
        if bar.up_to is not None:
            rest = place(bar.up_to)
            lines.append(f'<rect class="rest" x="{end:.1f}" y="{y:g}" width="{rest - end:.1f}" height="17" {fill}/>')
            text, end = f"{text} to {_number(bar.up_to)}", rest
        lines.append(f'<text x="{end + 6:.1f}" y="{y + 13:g}">{text}</text>')
        y += ROW
    grid = [
        f'<line class="grid" x1="{place(tick):.1f}" x2="{place(tick):.1f}" y1="{TOP - 8}" y2="{y:g}"/>'
        f'<text class="faint" x="{place(tick):.1f}" y="{TOP - 14}" text-anchor="middle">{tick:g}</text>'
        for tick in ticks
    ]
    height = y + 16
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{STYLE}\n</style>",
            f'<rect class="paper" width="{WIDTH}" height="{height:g}" rx="10"/>',
            f'<text class="title" x="16" y="28">{escape(title)}</text>',
            *grid,
            *lines,
            "</svg>\n",
        ]
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _ticks(most: float, *, logarithmic: bool) -> list[float]:
    if logarithmic:
        return [10.0**power for power in range(-1, math.ceil(math.log10(most)) + 1)]
    return [0, 0.25, 0.5, 0.75, 1]
