"""How regularized: all strengths at once, from nothing or nearly nothing to much."""

from __future__ import annotations

from tune_spaces import Experiment, Ranges

NUMBERS = frozenset({"regress", "rate"})
"""Families without labels to smooth."""
COMPARABLE = frozenset({"classify", "multilabel", "tag", "roles", "span"})
"""Families whose answers R-Drop can compare."""


def space(experiment: Experiment) -> Ranges:
    """Vary every strength that acts on some task of the experiment."""
    families = {str(task["family"]) for task in experiment["tasks"].values()}
    adapters = (experiment.get("encoder") or {}).get("lora") not in (None, "none")
    stage = (experiment.get("deepspeed") or {}).get("zero_stage", 2)
    found: Ranges = {
        "regularization.dropout": ("uniform", 0.0, 0.3),
        "regularization.attention_dropout": ("uniform", 0.0, 0.3),
        "regularization.head_dropout": ("uniform", 0.0, 0.5),
        "regularization.layer_decay": ("uniform", 0.7, 1.0),
        "regularization.ema": ("choice", [0.0, 0.9, 0.99]),
        "optimizer.weight_decay": ("loguniform", 1e-4, 0.3),
    }
    if not families <= NUMBERS:
        found["regularization.label_smoothing"] = ("uniform", 0.0, 0.2)
    if families & COMPARABLE:
        found["regularization.r_drop"] = ("choice", [0.0, 0.5, 1.0, 3.0])
    if not adapters:
        found["regularization.l2_sp"] = ("loguniform", 1e-4, 1.0)
        found["regularization.reinit_layers"] = ("integer", 0, 2)
    if not adapters and stage != 3:
        found["regularization.mixout"] = ("choice", [0.0, 0.3, 0.6, 0.9])
    return found
