"""Pictures of a study: arms and differences, helpers of targets, curves, a search, its price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from orchestrator.studies.answers import number, within
from orchestrator.studies.effects import Cell, Curve
from orchestrator.studies.lineages import Piece
from orchestrator.studies.searched import Search
from orchestrator.studies.themed import (
    GAIN,
    INK,
    LINE,
    LOSS,
    PAPER,
    SOFT,
    WIDE,
    figure,
    panels,
    plain,
)

SEVERAL = 5
"""Tasks up to which a cell of the matrix has room for its interval."""
POWERS = 20
"""Largest over smallest strength from which on a grid is drawn evenly."""
UNITS = ((7200.0, "hours", 3600.0), (120.0, "minutes", 60.0), (0.0, "seconds", 1.0))
MIDDLE: dict[str, Any] = {"ha": "center", "va": "center"}


@dataclass(frozen=True)
class Bar:
    """One row of a forest plot."""

    name: str
    mean: float
    low: float | None
    high: float | None
    strong: bool = False
    apart: bool = False
    """Whether a line divides it from what is above."""


def forest(rows: Sequence[Bar], unit: str, zero: bool, width: float) -> Figure:
    """Draw means with intervals; about zero, strong ones in the colour of gain or loss."""
    found, axes = _rows([row.name for row in rows], width)
    for place, row in enumerate(rows):
        colour = SOFT if zero else GAIN
        if zero and row.strong:
            colour = LOSS if row.mean < 0 else GAIN
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.8)
        if row.apart:
            axes.axhline(
                place - (0.5 if width == WIDE else 0.75), color=SOFT, linewidth=0.7, dashes=(3, 3)
            )
        full = row.strong or not zero
        inside = colour if full else PAPER
        axes.plot(row.mean, place, "o", color=inside, markeredgecolor=colour, markersize=6)
    if zero:
        axes.axvline(0, color=SOFT, linewidth=1)
    axes.xaxis.set_major_locator(MaxNLocator(8 if width == WIDE else 4))
    axes.set_xlabel(unit)
    return found


def matrix(cells: Sequence[Cell], width: float) -> Figure:
    """Draw what each target (row) gains by each helper (column); a star marks what is significant.

    The colour is as strong as the gain against the largest one.
    """
    tasks = list(dict.fromkeys([*(own.target for own in cells), *(own.helper for own in cells)]))
    most = max([abs(own.gain) for own in cells], default=0.0) or 1.0
    wide = width == WIDE
    side = min(width - 1.0, 1.35 * len(tasks)) / len(tasks)
    found, axes = figure(side * len(tasks) + 1.0, min(side, 0.72) * len(tasks) + 0.6)
    for place in range(len(tasks)):
        axes.add_patch(_square(place, place, LINE, 0.6))
    for own in cells:
        x, y = tasks.index(own.helper), tasks.index(own.target)
        colour = GAIN if own.gain > 0 else LOSS if own.gain < 0 else LINE
        axes.add_patch(_square(x, y, colour, 0.08 + 0.45 * abs(own.gain) / most))
        room = wide and len(tasks) <= SEVERAL and own.low is not None
        text = ("+" if own.gain > 0 else "") + number(own.gain) + "*" * own.significant
        weight, size = ("bold" if own.significant else "normal"), 10 if wide else 8.5
        axes.text(x, y - 0.13 * room, text, weight=weight, size=size, **MIDDLE)
        if room:
            axes.text(x, y + 0.22, within(own.low, own.high), size=8, **MIDDLE)
    short = [plain(task, 14 if wide else 9) for task in tasks]
    axes.set_xticks(range(len(tasks)), short, color=INK)
    axes.set_yticks(range(len(tasks)), short, color=INK)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.set(xlim=(-0.5, len(tasks) - 0.5), ylim=(len(tasks) - 0.5, -0.5))
    axes.set_xlabel("helper")
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("target")
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    return found


def curves(shown: Sequence[Curve], unit: str, width: float) -> Figure:
    """Draw the score against each strength, with the band of its interval, all to one scale."""
    found, parts = panels(len(shown), width)
    for place, (axes, curve) in enumerate(zip(parts, shown, strict=True)):
        values = [point.value for point in curve.points]
        above = [value for value in values if value > 0]
        even = bool(above) and max(above) > POWERS * min(above)
        where = list(range(len(values))) if even else values
        means = np.array([point.mean for point in curve.points])
        low, high = (
            [
                point.mean if end is None else end
                for point, end in zip(curve.points, ends, strict=True)
            ]
            for ends in zip(*((point.low, point.high) for point in curve.points), strict=True)
        )
        axes.fill_between(where, low, high, color=GAIN, alpha=0.16, linewidth=0)
        axes.plot(where, means, "o-", color=GAIN, markersize=4)
        for x, point in zip(where, curve.points, strict=True):
            if point.base:
                axes.plot(x, point.mean, "o", color=PAPER, markeredgecolor=GAIN, markersize=7)
        if even:
            axes.set_xticks(where, [f"{value:g}" for value in values])
        name = plain(curve.setting.removeprefix("regularization."), 30)
        axes.set_title(name, size=9.5, loc="left")
        if place == 0:
            axes.set_ylabel(unit)
    return found


def history(search: Search, unit: str, width: float) -> Figure:
    """Draw each trial's score, the best so far, and the best to expect of so many trials."""
    found, axes = figure(width, 3.1)
    for status, mark, label in (("finished", "o", "a trial"), ("stopped", "x", "stopped early")):
        own = [
            (trial.place, trial.score)
            for trial in search.trials
            if trial.status == status and trial.score is not None
        ]
        if own:
            x, y = zip(*own, strict=True)
            axes.plot(x, y, mark, color=SOFT, markersize=4, alpha=0.7, label=label)
    best = [(trial.place, trial.best) for trial in search.trials if trial.best is not None]
    if best:
        x, y = zip(*best, strict=True)
        axes.step(x, y, where="post", color=GAIN, linewidth=2, label="best so far")
        count = range(1, len(search.expected) + 1)
        axes.plot(count, search.expected, "--", color=LOSS, linewidth=1.5, label="best to expect")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trials")
    axes.set_ylabel(unit)
    above: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "handlelength": 1.5}
    axes.legend(ncols=4 if width == WIDE else 2, borderaxespad=0.2, **above)
    return found


def lineage(pieces: Sequence[Piece], best: Sequence[Piece], unit: str, width: float) -> Figure:
    """Draw each member's score by step; where lines part, weights were taken over."""
    found, axes = figure(width, 3.4)
    ends = {piece.hash: piece for piece in pieces}
    chosen = {piece.hash for piece in best}
    for piece in sorted(pieces, key=lambda own: own.hash in chosen):
        before = ends.get(piece.parent)
        if piece.score is None or (before is not None and before.score is None):
            continue
        line = [(own.step, own.score) for own in (before, piece) if own is not None]
        colour, strength = (GAIN, 2.0) if piece.hash in chosen else (SOFT, 1.0)
        dashes = "--" if piece.source != piece.member else "-"
        axes.plot(*zip(*line, strict=True), dashes, color=colour, linewidth=strength)
        axes.plot(piece.step, piece.score, "o", color=colour, markersize=3)
    axes.xaxis.set_major_locator(MaxNLocator(8 if width == WIDE else 4, integer=True))
    axes.set_xlabel("steps")
    axes.set_ylabel(unit)
    return found


def budget(by_arm: Mapping[str, Mapping[str, float]], width: float) -> Figure:
    """Draw the time that each arm's trials took, by what became of them."""
    total = max(sum(own.values()) for own in by_arm.values())
    unit, scale = next((unit, scale) for least, unit, scale in UNITS if total >= least)
    found, axes = _rows(list(by_arm), width)
    before = np.zeros(len(by_arm))
    for status, colour in (("finished", GAIN), ("stopped", SOFT), ("failed", LOSS)):
        own = np.array([by.get(status, 0.0) / scale for by in by_arm.values()])
        if own.any():
            height = 0.55 if width == WIDE else 0.3
            look: dict[str, Any] = {"color": colour, "alpha": 0.75, "label": status}
            axes.barh(range(len(own)), own, height, before, **look)
        before += own
    axes.set_xlabel(unit)
    above: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1)}
    axes.legend(ncols=3, handlelength=1, borderaxespad=0, **above)
    return found


def spending(search: Search, seconds: Mapping[str, float], width: float) -> Figure:
    """Draw the time that a search has taken, trial by trial; ``seconds`` by trial's hash."""
    found, axes = figure(width, 2.4)
    own = {trial.hash: seconds.get(trial.hash, 0.0) for trial in search.trials}
    sums = np.cumsum(list(own.values()))
    unit, scale = next((unit, scale) for least, unit, scale in UNITS if sums[-1] >= least)
    axes.fill_between(range(1, len(sums) + 1), sums / scale, color=GAIN, alpha=0.16, linewidth=0)
    axes.plot(range(1, len(sums) + 1), sums / scale, color=GAIN, linewidth=1.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("trials")
    axes.set_ylabel(unit)
    return found


def _rows(names: Sequence[str], width: float) -> tuple[Figure, Any]:
    """Begin a figure of named rows, downwards: names beside, or on a narrow screen above."""
    wide = width == WIDE
    found, axes = figure(width, 0.85 + (0.27 if wide else 0.46) * len(names))
    if wide:
        axes.set_yticks(range(len(names)), [plain(name, 34) for name in names], color=INK)
    else:
        axes.set_yticks([])
        for place, name in enumerate(names):
            across = axes.get_yaxis_transform()
            label = axes.text(0, place - 0.2, plain(name, 44), transform=across, va="bottom")
            label.set_bbox({"facecolor": PAPER, "edgecolor": "none", "pad": 0.5})
    axes.set_ylim(len(names) - 0.4, -0.6 if wide else -0.85)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    return found, axes


def _square(x: float, y: float, colour: str, strength: float) -> Rectangle:
    look: dict[str, Any] = {"facecolor": colour, "alpha": strength, "linewidth": 0}
    return Rectangle((x - 0.48, y - 0.47), 0.96, 0.94, **look)
