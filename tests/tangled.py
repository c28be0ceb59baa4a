"""An experiment in which as much as possible names tasks, and what its arms come to."""

from __future__ import annotations

from typing import Any

from orchestrator.document import override
from orchestrator.experiment import Experiment, parse
from orchestrator.studies.designs import Design

LISTED = [
    {"name": "helpers", "train": ["encoder", "head:a", "head:b"], "steps": 10},
    {"name": "some", "train": ["encoder", "heads"], "mixture": {"shares": {"a": 0.4, "t": 0.6}}},
    {"name": "own", "train": ["head:b"], "until": "plateau", "max_steps": 7},
    {"name": "last", "train": ["target"], "steps": 20},
]


def arms(tree: dict[str, Any], design: Design) -> dict[str, Experiment]:
    """Give the experiment of each arm."""
    return {arm.name: parse(override(tree, arm.changes)) for arm in design.arms}


def tangled(**changes: Any) -> dict[str, Any]:
    """Give it; all tasks have one mapping as their data, as an anchor of YAML would make it."""
    data = {"path": "x"}
    tree = {
        "name": "tangled",
        "encoder": {"model": "tiny"},
        "target": "t",
        "score": "a/macro_f1",
        "tasks": {
            "t": {"family": "tag", "data": data, "weight": 2},
            "a": {"family": "classify", "data": data, "regularization": {"label_smoothing": 0.1}},
            "b": {"family": "regress", "data": data},
            "c": {"family": "rate", "data": data},
        },
        "mixture": {"shares": {"t": 0.4, "a": 0.3, "b": 0.2, "c": 0.1}, "max_epochs": 3},
        "weighting": "uncertainty",
        "regularization": {"r_drop": 1.0, "label_smoothing": 0.05},
        "stages": LISTED,
        "stacking": {"features": {"a": "logits", "b": "hidden"}},
        "train": {"steps": 60},
    }
    return override(tree, changes)
