"""Pictures of how a score follows from the mixture: a triangle for three tasks, else slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation

from orchestrator.studies.answers import number
from orchestrator.studies.searched import Surface
from orchestrator.studies.statistics import Array
from orchestrator.studies.themed import GAIN, INK, LINE, LOSS, PAPER, SOFT, figure, panels, plain

LEVELS = 9
"""Steps of colour from the lowest score to the highest."""
FAINT, FULL = 0.05, 0.75
"""Strength of colour at these."""
CORNERS = np.array([[0.5, np.sqrt(0.75)], [0.0, 0.0], [1.0, 0.0]])
"""Of the first task (above), the second (left) and the third (right)."""


def surface(found: Surface, unit: str, width: float) -> Figure:
    """Draw trials, and the fit where it is trusted."""
    return ternary(found, unit, width) if len(found.tasks) == 3 else slices(found, unit, width)


def ternary(found: Surface, unit: str, width: float) -> Figure:
    """Draw mixtures of three tasks in a triangle: each corner is a task alone."""
    side = min(width, 5.6)
    drawn, axes = figure(side, side * 0.94)
    values = [value for _, value in (*found.points, *found.grid)]
    edges = np.linspace(min(values), max(values) + 1e-9, LEVELS + 1)
    strengths = np.linspace(FAINT, FULL, LEVELS)
    _net(axes)
    if found.grid:
        places = _places([shares for shares, _ in found.grid])
        colours: Any = [(*_channels(GAIN), strength) for strength in strengths]
        heights = np.clip([value for _, value in found.grid], edges[0], edges[-1])
        triangles = Triangulation(places[:, 0], places[:, 1])
        axes.tricontourf(triangles, heights, levels=edges, colors=colours, zorder=0)
    tried = _places([shares for shares, _ in found.points])
    for place, (_, value) in zip(tried, found.points, strict=True):
        level = min(LEVELS - 1, int(np.searchsorted(edges, value, "right")) - 1)
        axes.plot(*place, "o", color=PAPER, markersize=8, markeredgewidth=0, zorder=3)
        inside: Any = (*_channels(GAIN), strengths[level])
        axes.plot(*place, "o", color=inside, markeredgecolor=INK, markersize=8, zorder=4)
    if found.recommended is not None:
        star = _places([tuple(found.recommended[task] for task in found.tasks)])[0]
        axes.plot(*star, "*", color=LOSS, markeredgecolor=PAPER, markersize=19, zorder=5)
    _corners(axes, found.tasks)
    _scale(axes, edges, strengths, unit)
    axes.set(aspect="equal", xlim=(-0.12, 1.12), ylim=(-0.26, 0.97))
    axes.axis("off")
    return drawn


def slices(found: Surface, unit: str, width: float) -> Figure:
    """Draw the score against each task's share; the line is the fit, others in proportion."""
    drawn, parts = panels(len(found.tasks), width)
    for place, (axes, task) in enumerate(zip(parts, found.tasks, strict=True)):
        x = [shares[place] for shares, _ in found.points]
        axes.plot(x, [value for _, value in found.points], "o", color=SOFT, alpha=0.6, markersize=4)
        if line := found.slices.get(task):
            axes.plot(*zip(*line, strict=True), color=GAIN, linewidth=2)
        if found.recommended is not None:
            axes.axvline(found.recommended[task], color=LOSS, linewidth=1.2, linestyle="--")
        axes.set_xlim(-0.03, 1.03)
        axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        axes.set_title(f"share of {plain(task, 18)}", size=9.5, loc="left")
        if place == 0:
            axes.set_ylabel(unit)
    return drawn


def _places(mixtures: Sequence[Sequence[float]]) -> Array:
    """Give places in the triangle, ``[n, 2]``."""
    found: Array = np.array(mixtures, np.float64).reshape(len(mixtures), 3) @ CORNERS
    return found


def _net(axes: Axes) -> None:
    """Draw the triangle, and lines of equal shares at each quarter."""
    for share in (0.25, 0.5, 0.75):
        for task in range(3):
            ends = np.zeros((2, 3))
            ends[:, task] = share
            ends[0, (task + 1) % 3] = ends[1, (task + 2) % 3] = 1 - share
            axes.plot(*_places(ends.tolist()).T, color=LINE, linewidth=0.8, zorder=1)
    axes.plot(*CORNERS[[0, 1, 2, 0]].T, color=SOFT, linewidth=0.9, zorder=2)


def _corners(axes: Axes, tasks: Sequence[str]) -> None:
    places: list[tuple[float, float, str]] = [
        (0.5, 0.9, "center"),
        (0.0, -0.045, "center"),
        (1.0, -0.045, "center"),
    ]
    for (x, y, across), task in zip(places, tasks, strict=True):
        look: dict[str, Any] = {"ha": across, "va": "bottom" if y > 0 else "top", "size": 10}
        axes.text(x, y, plain(task, 16), weight="bold", **look)


def _scale(axes: Axes, edges: Array, strengths: Array, unit: str) -> None:
    """Draw which colour is which score."""
    left, step, y = 0.22, 0.56 / LEVELS, -0.17
    for place, strength in enumerate(strengths):
        box: dict[str, Any] = {"facecolor": GAIN, "alpha": float(strength), "linewidth": 0}
        axes.axvspan(
            left + place * step,
            left + (place + 1) * step,
            ymin=(y + 0.26) / 1.23,
            ymax=(y + 0.30) / 1.23,
            **box,
        )
    look: dict[str, Any] = {"va": "center", "color": SOFT, "size": 8.5}
    axes.text(left - 0.02, y + 0.02, number(float(edges[0])), ha="right", **look)
    axes.text(left + 0.58, y + 0.02, number(float(edges[-1])), ha="left", **look)
    axes.text(0.5, y - 0.025, unit, ha="center", **{**look, "va": "top"})


def _channels(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
