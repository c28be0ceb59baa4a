"""How much of each task: shares of the examples, a temperature, or weights of the losses."""

from __future__ import annotations

from typing import Any

from tune_spaces import Experiment, Ranges

LIGHTEST, HEAVIEST = 0.1, 10.0
"""Of a helper's loss against the target's."""


def space(experiment: Experiment) -> Ranges:
    """Vary the share of each task, all of them together 1."""
    return {**_only("shares", experiment), "mixture.shares": ("simplex", _several(experiment))}


def temperature(experiment: Experiment) -> Ranges:
    """Vary between shares by size (1) and nearly equal ones (Arivazhagan et al. 2019)."""
    _several(experiment)
    return {**_only("temperature", experiment), "mixture.temperature": ("uniform", 1.0, 5.0)}


def weights(experiment: Experiment) -> Ranges:
    """Vary the weights of losses; that of the target, or else of the first task, is 1."""
    tasks = _several(experiment)
    first = experiment.get("target") or tasks[0]
    return {
        f"tasks.{task}.weight": ("fixed", 1.0)
        if task == first
        else ("loguniform", LIGHTEST, HEAVIEST)
        for task in tasks
    }


def _several(experiment: Experiment) -> list[str]:
    """List the tasks. Raises ``ValueError`` if there is only one."""
    tasks = sorted(map(str, experiment["tasks"]))
    if len(tasks) < 2:
        raise ValueError("the space varies how much of each task there is; expected several tasks")
    return tasks


def _only(way: str, experiment: Experiment) -> Ranges:
    """Take back the other ways to say shares: an experiment has one."""
    off: dict[str, Any] = {"temperature": None, "shares": None, "uniform": False}
    own = experiment.get("mixture") or {}
    return {
        f"mixture.{key}": ("fixed", value)
        for key, value in off.items()
        if key != way and own.get(key, value) != value
    }
