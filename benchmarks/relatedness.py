"""What sharing gives against how much the tasks tell about each other, with each regularizer.

    python benchmarks/relatedness.py --seeds 8 --folder runs/relatedness --figure relatedness.svg

The built-in corpus has a dial for how much a sentence's topic tells about its feeling. For each
value of the dial, the target (feeling, few labelled rows) is trained alone, jointly with the topic,
with frozen heads, and by the stages `tlmt` whose last one reads what the helper says; and each of
these with each regularizer. The gain over the target alone with the same regularizer is drawn
against the mutual information of both labels, as measured in the helper's rows. Goes on where it
was left; hours.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from chain import Arms, Chain, begun
from matplotlib.figure import Figure
from sklearn.metrics import mutual_info_score

from orchestrator.access import secure_ray
from orchestrator.experiment import parse
from orchestrator.studies import statistics, study
from orchestrator.studies.agenda import Listed
from tasks import builtin

DIAL = (0.0, 0.25, 0.5, 0.75, 1.0)
WAYS = ("joint", "frozen_heads", "tlmt")
REGULARIZERS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "dropout": {"regularization.dropout": 0.3, "regularization.head_dropout": 0.3},
    "label smoothing": {"regularization.label_smoothing": 0.1},
    "L2-SP": {"regularization.l2_sp": 0.01},
    "mixout": {"regularization.mixout": 0.5},
    "R-Drop with dropout": {
        "regularization.dropout": 0.1,
        "regularization.head_dropout": 0.1,
        "regularization.r_drop": 1.0,
    },
    "layer decay": {"regularization.layer_decay": 0.8},
    "EMA": {"regularization.ema": 0.9},
}
SIZE, FEW = 2000, 150


def corpus(value: float) -> str:
    """Name the corpus of a value of the dial."""
    return f"builtin:demo?size={SIZE}&relatedness={value}"


def tree(value: float, steps: int) -> dict[str, Any]:
    """Give the experiment of a value of the dial, without any regularizer."""
    data = {"path": corpus(value), "text": "text"}
    return {
        "name": "relatedness",
        "encoder": {"model": "tiny"},
        "tasks": {
            "feeling": {"family": "classify", "data": {**data, "label": "sentiment", "limit": FEW}},
            "topic": {"family": "classify", "data": {**data, "label": "topic"}},
        },
        "target": "feeling",
        "mixture": {"uniform": True},
        "optimizer": {"lr": 2e-3},
        "regularization": {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0},
        "stacking": {"folds": 2},
        "batch": {"tokens": 256, "micro_tokens": 512},
        "train": {"steps": steps, "evaluate_every": steps, "precision": "fp32"},
        "scaling": {"workers": 1, "threads": 1},
    }


def arms(names: Sequence[str]) -> Arms:
    """List the target alone and every way of sharing, each with each of these regularizers."""
    found: dict[str, Any] = {}
    for name in names:
        changes = REGULARIZERS[name]
        alone = {**changes, "tasks.topic": None}
        found[f"alone, {name}"] = ("baseline", alone)
        for way in WAYS:
            found[f"{way}, {name}"] = ("arm", {**changes, "stages": way})
    return found


def begin(folder: Path, value: float, seeds: int, steps: int, names: Sequence[str]) -> Listed:
    """Make the study of one value of the dial."""
    question = {
        "what": "relatedness",
        "target": "feeling",
        "metric": "feeling/accuracy",
        "baseline": "alone, none",
        "comparisons": [[f"{way}, none", "alone, none"] for way in WAYS],
    }
    return begun(folder / f"{value:.2f}", tree(value, steps), arms(names), range(seeds), question)


def information(value: float) -> float:
    """Measure the mutual information of both labels, in nats."""
    rows = builtin.corpus(corpus(value))["train"]
    return float(mutual_info_score(*([row[k] for row in rows] for k in ("sentiment", "topic"))))


Gains = dict[tuple[str, str], list[tuple[float, float, float, float]]]
"""By way and regularizer: information, mean gain, and the ends of its interval."""


def gains(folder: Path) -> Gains:
    """Gather the gains over the target alone of all values that have ended."""
    found: Gains = {}
    random = np.random.default_rng(0)
    for value in DIAL:
        place = folder / f"{value:.2f}" / "study"
        if not (place / study.FILE).is_file():
            continue
        own = study.Study(place)
        results = own.results()
        scores: dict[str, dict[int, float]] = {}
        for asked in own.asked:
            result = results.get(asked.hash)
            if result is not None and result.status == "finished":
                scores.setdefault(asked.arm, {})[asked.seed] = float(result.score or 0.0)
        for way in WAYS:
            for name in REGULARIZERS:
                here, alone = scores.get(f"{way}, {name}", {}), scores.get(f"alone, {name}", {})
                paired = np.array([here[seed] - alone[seed] for seed in here if seed in alone])
                if len(paired) < 2:
                    continue
                draws = paired[random.integers(0, len(paired), (2000, len(paired)))].mean(1)
                low, high = statistics.interval(draws)
                told = (information(value), float(paired.mean()), low, high)
                found.setdefault((way, name), []).append(told)
    return found


def draw(found: Gains, file: Path) -> None:
    """Draw a panel for each regularizer, a line for each way."""
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    panels = figure.subplots(2, 4, sharex=True, sharey=True)
    for axes, name in zip(panels.flat, REGULARIZERS, strict=True):
        axes.axhline(0, color="#888888", linewidth=0.8)
        axes.set_title(name, fontsize=9)
        for way in WAYS:
            if own := found.get((way, name)):
                x, mean, low, high = (np.array(column) for column in zip(*own, strict=True))
                axes.plot(x, mean, marker="o", markersize=3, linewidth=1.2, label=way)
                axes.fill_between(x, low, high, alpha=0.15)
    panels[0, 0].legend(frameon=False, fontsize=8)
    figure.supxlabel("mutual information of the labels, nats", fontsize=9)
    figure.supylabel("gain in accuracy over the target alone", fontsize=9)
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Run what is missing; print and draw the gains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--folder", type=Path, default=Path("runs/relatedness"))
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[*REGULARIZERS], choices=[*REGULARIZERS])
    parser.add_argument("--table", action="store_true", help="print what there is, run nothing")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not asked.table:
        secure_ray()
        from orchestrator.studies import tuning

        given = asked.seeds, asked.steps, asked.only
        source = Chain([partial(begin, folder, value, *given) for value in DIAL])
        tuning.run(folder, source, parse(tree(0.0, asked.steps)), asked.parallel)
    found = gains(folder)
    print("| regularizer | way | " + " | ".join(f"{information(v):.3f} nats" for v in DIAL) + " |")
    print("|---|---|" + "---|" * len(DIAL))
    for (way, name), own in sorted(found.items(), key=lambda pair: pair[0][::-1]):
        cells = [f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" for _, mean, low, high in own]
        print(f"| {name} | {way} | {' | '.join(cells)} |")
    if asked.figure is not None:
        draw(found, asked.figure)


if __name__ == "__main__":
    main()
