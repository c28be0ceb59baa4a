"""Pictures of a run: its losses, its scores, and which labels it mixes up."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from orchestrator.coherence import LESS_IS_BETTER
from orchestrator.summary import Summary

Points = Sequence[tuple[int, float]]

OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
COLOURS = (*OKABE_ITO, "#882255", "#999933", "#332288")
"""Told apart by colour-blind readers too (Okabe and Ito 2008; the last three are Paul Tol's)."""
GREY = "#666666"
SMOOTHED = 20  # points of training loss that become one
MANY_SCORES = 12  # from here on lines and their names would not be readable
OUT_OF_100 = {"bleu", "chrf"}
MANY_LABELS = 30  # from here on counts and names would not be readable


def draw(folder: Path) -> dict[str, Path]:
    """Draw all pictures of a run into ``charts/`` of its folder; give them by name."""
    summary = Summary(folder)
    figures = {"losses": losses(summary.series)}
    if shown := _shown(summary):
        figures["scores"] = scores({key: summary.series[key] for key in shown})
    for figure in figures.values():
        _divide(figure.axes[0], summary.stages)
    for task, found in sorted(summary.confusions.items()):
        figures[f"confusion-{task}"] = confusion(found["labels"], found["counts"])
    (folder / "charts").mkdir(exist_ok=True)
    paths = {}
    for name, figure in figures.items():
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=130)
        paths[name] = folder / "charts" / f"{name}.png"
        paths[name].write_bytes(picture.getvalue())
    return paths


def losses(series: Mapping[str, Points]) -> Figure:
    """Draw each task's loss on training (line) and validation (dots), in units of chance."""
    tasks = sorted({key.split("/")[0] for key in series if key.endswith("/train/loss")})
    figure, axes = _figure("loss (1 = untrained)")
    for colour, task in zip(_colours(len(tasks)), tasks, strict=True):
        steps, values = _smoothed(series[f"{task}/train/loss"])
        axes.plot(steps, values, color=colour, linewidth=1.4, label=task)
        seen = series.get(f"{task}/validation/loss", ())
        if seen:
            axes.plot(*zip(*seen, strict=True), "o--", color=colour, markersize=4, linewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.plot([], [], "o--", color=GREY, markersize=4, linewidth=0.8, label="validation")
    _finish(axes)
    return figure


def _shown(summary: Summary) -> list[str]:
    """Choose the scores on validation for which 1 is best; of many, the tasks' main ones."""
    own = (key.split("/") for key in summary.series if "/validation/" in key)
    found = sorted((task, m) for task, _, m in own if m not in LESS_IS_BETTER | OUT_OF_100)
    if len(found) > MANY_SCORES:
        mains = {task: summary.main(task) for task, _ in found}
        found = [(task, metric) for task, metric in found if metric == mains[task]]
    return [f"{task}/validation/{metric}" for task, metric in found]


def scores(series: Mapping[str, Points]) -> Figure:
    """Draw the scores on validation: a colour for each task, its first score drawn through."""
    figure, axes = _figure("score on validation")
    keys = sorted(series)
    tasks = sorted({key.split("/")[0] for key in keys})
    lines = ("-", "--", ":", "-.")
    for colour, task in zip(_colours(len(tasks)), tasks, strict=True):
        own = [key for key in keys if key.startswith(f"{task}/")]
        for place, key in enumerate(own):
            axes.plot(
                *zip(*series[key], strict=True),
                marker="o",
                markersize=3,
                linestyle=lines[place % len(lines)],
                color=colour,
                linewidth=1.2,
                label=key.replace("/validation/", " "),
            )
    axes.set_ylim(top=1)
    _finish(axes)
    return figure


def confusion(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Figure:
    """Draw gold labels (rows) against predicted ones, coloured by share of the row."""
    table = np.array(counts, dtype=float)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = 1.8 + min(0.42 * len(labels), 7)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted", color=GREY, fontsize=9)
    axes.set_ylabel("true", color=GREY, fontsize=9)
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    if len(labels) <= MANY_LABELS:
        axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(labels)), labels)
        for row, column in np.argwhere(table > 0):
            colour = "white" if share[row, column] > 0.55 else "#222222"
            text = f"{int(table[row, column])}"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    return figure


def _figure(quantity: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.6, 3.2))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.08, right=0.76, top=0.96, bottom=0.16)  # all alike
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("step", color=GREY, fontsize=9)
    axes.set_ylabel(quantity, color=GREY, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=GREY, labelsize=8)
    return figure, axes


def _divide(axes: Axes, stages: Sequence[tuple[int, str]]) -> None:
    """Draw a line where each stage begins, with its name."""
    top = axes.get_xaxis_transform()
    for step, name in stages:
        axes.axvline(step, color=GREY, linewidth=0.7, linestyle=":")
        axes.text(step, 1, f" {name}", transform=top, color=GREY, fontsize=7, va="bottom")


def _finish(axes: Axes) -> None:
    axes.set_xlim(left=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)


def _colours(count: int) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(count)]


def _smoothed(points: Points) -> tuple[list[float], list[float]]:
    """Average neighbours where there are many points, so that a noisy line can be read."""
    width = max(1, min(SMOOTHED, len(points) // 50))
    steps, values = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    ends = [slice(start, start + width) for start in range(0, len(points), width)]
    return [float(steps[e].mean()) for e in ends], [float(values[e].mean()) for e in ends]
