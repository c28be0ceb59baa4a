"""What learns when: the named sequences of stages."""

from __future__ import annotations

from tune_spaces import Changes, Experiment

FOR_ANY = ("joint", "frozen_heads", "lp_ft", "gradual")
FOR_TARGETS = ("helpers_first", "tlmt")
"""Those that need a target with helpers."""


def space(experiment: Experiment) -> Changes:
    """Try each sequence that the experiment can have."""
    helped = experiment.get("target") not in (None, "none") and len(experiment["tasks"]) > 1
    return [{"stages": name} for name in (*FOR_ANY, *(FOR_TARGETS if helped else ()))]
