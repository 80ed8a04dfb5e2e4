"""Draw bar charts as SVG for light and dark pages, with matplotlib."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["Bar", "chart"]

#: The colours on light and dark pages. matplotlib draws the light ones; a style sheet in the SVG replaces them.
COLOURS = {
    "paper": ("#ffffff", "#16191d"),
    "line": ("#d5dae1", "#39414b"),
    "ink": ("#1b1f24", "#e8ebef"),
    "faint": ("#57606a", "#a9b2bd"),
    "this": ("#0b62c4", "#6cb2ff"),
    "other": ("#b3561e", "#ff9f6b"),
    "limit": ("#8a94a3", "#8a94a4"),
}
PAPER, LINE, INK, FAINT, *SERIES = (light for light, _ in COLOURS.values())

#: Text remains text, and the same data produces the same file.
RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dramatiq-abort",
    "font.family": "sans-serif",
    "font.size": 9,
}


class Bar(NamedTuple):
    """One bar.

    Parameters:
      group: The measurement; if empty, that of the previous bar.
      name: The series.
      value: Its length.
      up_to: The end of a fainter continuation, or None.
    """

    group: str
    name: str
    value: float
    up_to: float | None = None


def chart(title: str, bars: list[Bar], *, logarithmic: bool = False) -> str:
    """Draw the bars one below the other, with one colour per series, in order of appearance."""
    colours = dict(zip(dict.fromkeys(bar.name for bar in bars), SERIES, strict=False))
    with mpl.rc_context(RC):
        figure = Figure(figsize=(7.5, 0.75 + 0.25 * len(bars) + 0.3 * sum(bool(bar.group) for bar in bars)))
        figure.set_facecolor(PAPER)
        axes = figure.subplots()
        axes.set_title(title, color=INK, loc="left", weight="bold", x=-0.3, fontsize=10.5)
        places, place = [], 0.0
        for bar in bars:
            place += 2.2 if bar.group else 1
            places.append(place)
            if bar.group:
                axes.text(-0.3, place - 1.1, bar.group, color=INK, transform=axes.get_yaxis_transform(), va="center")
            end = bar.up_to or bar.value
            axes.barh(place, bar.value, height=0.75, color=colours[bar.name])
            axes.barh(place, end - bar.value, left=bar.value, height=0.75, color=colours[bar.name], alpha=0.35)
            text = " to ".join(_number(value, logarithmic=logarithmic) for value in (bar.value, bar.up_to) if value)
            axes.annotate(text, (end, place), (5, 0), textcoords="offset points", color=INK, va="center")
        axes.set_yticks(places, [bar.name for bar in bars])
        axes.set_ylim(places[-1] + 0.7, places[0] - 1.8)
        if logarithmic:
            axes.set_xscale("log")
            axes.set_xlim(left=0.1)
            axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.tick_top()
        axes.tick_params(colors=FAINT, length=0, which="both")
        axes.grid(axis="x", color=LINE)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
        written = StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(written, format="svg", bbox_inches="tight", metadata=nothing | {"Title": title})
    return _for_light_and_dark(written.getvalue())


def _for_light_and_dark(svg: str) -> str:
    """Replace each colour with a variable, whose value depends on the reader's colour scheme."""
    light, dark = (" ".join(f"--{name}: {pair[number]};" for name, pair in COLOURS.items()) for number in range(2))
    for name, (colour, _) in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    style = f"svg {{ {light} }} @media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}"
    svg = svg.replace("<defs>", f"<style>{style}</style>\n <defs>", 1)
    return re.sub(r" +$", "", svg, flags=re.MULTILINE)


def _number(value: float, *, logarithmic: bool) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if logarithmic else f"{value:.2f}"
