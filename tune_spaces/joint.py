"""Mixture, regularization and learning rates, all at once."""

from __future__ import annotations

from tune_spaces import Experiment, Ranges, mixture, regularization


def space(experiment: Experiment) -> Ranges:
    """Vary the shares, every strength, and the rates of the encoder and of each head."""
    heads = {
        f"tasks.{task}.optimizer.lr": ("loguniform", 1e-4, 1e-2) for task in experiment["tasks"]
    }
    return {
        **mixture.space(experiment),
        **regularization.space(experiment),
        "optimizer.lr": ("loguniform", 1e-5, 5e-4),
        **heads,
    }
