"""Figures as SVG elements that take the colours of their page, light or dark, wide or narrow."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, SOFT, LINE, GAIN, LOSS, PAPER = (f"#0{n}0{n}0{n}" for n in range(1, 7))
"""Stand for the page's own colours while a figure is drawn."""
OWN = {
    INK: "currentColor",
    SOFT: "var(--soft)",
    LINE: "var(--line)",
    GAIN: "var(--gain)",
    LOSS: "var(--loss)",
    PAPER: "var(--paper)",
}
WIDE, NARROW = 8.4, 3.7
"""Inches, of a page and of a telephone."""
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": SOFT,
    "axes.grid": True,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "font.size": 9,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": SOFT,
    "xtick.labelsize": 8.5,
    "ytick.color": SOFT,
    "ytick.labelsize": 8.5,
    "ytick.major.size": 0,
}


def picture(name: str, says: str, draw: Callable[[float], Figure]) -> str:
    """Draw a figure for both widths; ``says`` is what is read aloud in its place."""
    return "".join(
        f'<div class="{shown}">{_svg(f"{name}-{shown}", says, draw, width)}</div>'
        for shown, width in (("for-wide", WIDE), ("for-narrow", NARROW))
    )


def figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Begin a figure of one part; inches."""
    found = Figure(figsize=(width, height), layout="constrained")
    return found, found.subplots()


def panels(count: int, width: float, shared: bool = True) -> tuple[Figure, Iterator[Axes]]:
    """Begin a figure of several parts to one vertical scale, in rows of three or two."""
    columns = min(count, 3 if width == WIDE else 2)
    rows = -(-count // columns)
    part = width / max(columns, 2 if width == WIDE else 1)
    found = Figure(figsize=(part * columns, rows * (2.3 if width == WIDE else 2.0)))
    found.set_layout_engine("constrained")
    every = found.subplots(rows, columns, squeeze=False, sharey=shared).flatten()
    for unused in every[count:]:
        unused.set_visible(False)
    return found, iter(every[:count])


def plain(name: str, most: int) -> str:
    """Shorten a name to so many letters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _svg(name: str, says: str, draw: Callable[[float], Figure], width: float) -> str:
    """Draw an SVG element that is the same each time, without an address of anything."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the page's own font has it
        made = io.StringIO()
        draw(width).savefig(made, format="svg", transparent=True, metadata={"Date": None})
    text = made.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.S)
    across, down = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)[0]
    size = f"width:{float(across) * 4 / 3:.0f}px;max-width:100%;height:auto"
    head = (
        f'<svg role="img" aria-label="{html.escape(says)}" viewBox="0 0 {across} {down}"'
        f' style="{size};stroke-linejoin:round;stroke-linecap:butt">'
    )
    text = head + text[text.index(">") + 1 :]
    text = re.sub(r' id="[A-Za-z0-9]+(\.[A-Za-z0-9]+)*_\d+"', "", text)  # those nothing points to
    text = text.replace("xlink:href", "href").replace("'DejaVu Sans'", "inherit")
    text = re.sub(r"font: ((?:[\w.]+ )*?)([\d.]+px)[^;\"]*", r"font: \1\2 var(--font)", text)
    for colour, own in OWN.items():
        text = text.replace(colour, own)
    return re.sub(r"\n\s*", "\n", text)
