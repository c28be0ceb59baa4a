"""Designs of ablations: from an experiment and a name to arms, and what is declared beforehand.

An arm is a list of changes to the experiment as written; all else is the same in every arm. What
a declared comparison ``(one, other)`` asks is whether the first is better than the second.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

import tasks
from orchestrator.document import override
from orchestrator.experiment import parse
from orchestrator.problems import nearest
from orchestrator.sections import HeadRegularization
from orchestrator.settings import Experiment
from orchestrator.studies import fewer, screening
from tasks.shuffled import possible
from tune_spaces import encoder, regularization, stages

Tree = Mapping[str, Any]
Kind = Literal["arm", "baseline", "control"]

WRITTEN = "as written"
EQUAL = "equal weights"
ALL = "all"
FULL = 5
"""Helpers of which every subset is tried."""
POINTS = 5
"""Of a strength's curve."""
OFF = {"regularization.layer_decay": 1}
"""Strengths that do nothing at another value than 0."""


@dataclass(frozen=True)
class Arm:
    """One thing to try."""

    name: str
    kind: Kind
    """``arm``: what the design asks about; ``baseline``: what that is to be held against;
    ``control``: what ought to do nothing."""
    changes: dict[str, Any]
    """Dotted settings in which it differs from the experiment as written."""


@dataclass(frozen=True)
class Design:
    """All arms of an ablation."""

    arms: list[Arm]
    baseline: str
    """The arm that the others are compared with."""
    comparisons: list[tuple[str, str]]
    """What is declared before anything is run: an arm, and the one that it is to be better than."""


def lay_out(tree: Tree, experiment: Experiment, design: str) -> Design:
    """Lay out a design for an experiment as written (``tree``) and as parsed.

    Arms that come to the same experiment are one, under the first one's name. Raises
    ``ValueError`` for a design that there is not, or that has nothing to vary here.
    """
    if design not in LAYOUTS:
        raise ValueError(f"there is no design {design!r}; {nearest(design, NAMES)}")
    found = LAYOUTS[design](tree, experiment)
    first: dict[str, Arm] = {}
    named = {}
    for arm in found.arms:
        own = parse(override(tree, arm.changes), f"the arm {arm.name!r}")
        content = json.dumps(own.model_dump(mode="json"), sort_keys=True)
        named[arm.name] = first.setdefault(content, arm).name
    pairs = dict.fromkeys((named[one], named[other]) for one, other in found.comparisons)
    declared = [(one, other) for one, other in pairs if one != other]
    return Design(list(first.values()), named[found.baseline], declared)


def _leave_one_out(tree: Tree, experiment: Experiment) -> Design:
    """Take each helper away from all: what would be lost without it."""
    target, helpers = _helped(experiment, "leave-one-out")
    every = _with(tree, experiment, target, helpers, "baseline")
    without = [
        replace(
            _with(tree, experiment, target, [h for h in helpers if h != helper]),
            name=f"without {helper}",
        )
        for helper in helpers
    ]
    arms = [every, *without, *_baselines(tree, experiment, target, helpers)]
    return Design(arms, every.name, [(every.name, arm.name) for arm in without])


def _add_one_in(tree: Tree, experiment: Experiment) -> Design:
    """Give the target each helper alone: what is won by it. The best is the best single helper."""
    target, helpers = _helped(experiment, "add-one-in")
    alone = _with(tree, experiment, target, [], "baseline")
    each = [_with(tree, experiment, target, [helper]) for helper in helpers]
    arms = [alone, *each, *_baselines(tree, experiment, target, helpers)]
    return Design(arms, alone.name, [(arm.name, alone.name) for arm in each])


def _pairs(tree: Tree, experiment: Experiment) -> Design:
    """Let every task help every other: the matrix of transfer from task to task."""
    names = sorted(experiment.tasks)
    if len(names) < 2:
        raise ValueError(f"pairs compares tasks, and there is only {names[0]!r}; add another one.")
    alone = {name: _with(tree, experiment, name, [], "baseline") for name in names}
    both = {
        pair: _with(tree, experiment, pair[0], [pair[1]])
        for pair in itertools.permutations(names, 2)
    }
    first = experiment.target or names[0]
    others = [name for name in names if name != first]
    arms = [
        *alone.values(),
        *both.values(),
        Arm(EQUAL, "baseline", _equal(tree, experiment)),
        *_control(tree, experiment, first, others),
    ]
    declared = [(arm.name, alone[target].name) for (target, _), arm in both.items()]
    return Design(arms, alone[first].name, declared)


def _subsets(tree: Tree, experiment: Experiment) -> Design:
    """Give the target every set of helpers or, of many helpers, sets that tell of each (Li 2023).

    A linear model over the subsets then says what each helper adds to a score.
    """
    target, helpers = _helped(experiment, "subsets")
    alone = _with(tree, experiment, target, [], "baseline")
    every = _with(tree, experiment, target, helpers, "baseline")
    if len(helpers) <= FULL:
        sizes = range(1, len(helpers))
        chosen = [s for size in sizes for s in itertools.combinations(helpers, size)]
    else:
        chosen = screening.subsets(helpers)
    drawn = [_with(tree, experiment, target, own) for own in chosen]
    arms = [alone, *drawn, every, *_baselines(tree, experiment, target, helpers)]
    return Design(arms, alone.name, [(every.name, alone.name)])


def _regularization(tree: Tree, experiment: Experiment) -> Design:
    """Set each strength alone to values from nothing to much; what is on is held against off."""
    written = Arm(WRITTEN, "baseline", {})
    arms, declared = [written], []
    space = regularization.space(experiment.model_dump(mode="json"))
    for key, given in space.items():
        for value in _grid(given, OFF.get(key, 0)):
            arms.append(Arm(_strength(key, value), "arm", _set(tree, key, value)))
        declared.append((WRITTEN, _strength(key, OFF.get(key, 0))))
    return Design(arms, WRITTEN, declared)


def _grid(given: Sequence[Any], off: float) -> list[float]:
    """Give some values of a range, and the one that does nothing."""
    kind, *values = given
    if kind == "choice":
        found = list(values[0])
    elif kind == "integer":
        found = list(range(values[0], values[1] + 1))
    elif kind == "loguniform":
        found = np.geomspace(values[0], values[1], POINTS - 1).tolist()
    else:
        found = np.linspace(values[0], values[1], POINTS).tolist()
    return sorted({off, *(float(f"{v:.3g}") if isinstance(v, float) else v for v in found)})


def _strength(key: str, value: float) -> str:
    return f"{key.rpartition('.')[2]} = {value:g}"


def _set(tree: Tree, key: str, value: float) -> dict[str, Any]:
    """Set a strength for all, also for tasks that have one of their own."""
    own = key.removeprefix("regularization.")
    with_own = [
        name
        for name, task in tree["tasks"].items()
        if own in HeadRegularization.model_fields and (task.get("regularization") or {}).get(own)
    ]
    return {key: value, **{f"tasks.{name}.regularization.{own}": value for name in with_own}}


def _stages(tree: Tree, experiment: Experiment) -> Design:
    """Try every sequence of stages, each against training all that is there from the beginning."""
    found: Any = stages.space(experiment.model_dump(mode="json"))
    each = [
        Arm(name, "baseline" if name == "joint" else "arm", fewer.preset(tree, experiment, name))
        for name in (change["stages"] for change in found)
    ]
    arms = [*each, Arm(WRITTEN, "arm", {})]
    if experiment.target is not None and len(experiment.tasks) > 1:
        arms.append(_with(tree, experiment, experiment.target, [], "baseline"))
        arms.append(Arm(EQUAL, "baseline", _equal(tree, experiment)))
    declared = [(arm.name, "joint") for arm in arms if arm.kind == "arm"]
    return Design(arms, "joint", declared)


def _encoders(tree: Tree, experiment: Experiment) -> Design:
    """Try the encoder whole and by small matrices, and the local ones, against it as written."""
    found: Any = encoder.space(experiment.model_dump(mode="json"))
    arms = [Arm(_reader(change), "arm", dict(change)) for change in found]
    declared = [(arm.name, WRITTEN) for arm in arms]
    return Design([Arm(WRITTEN, "baseline", {}), *arms], WRITTEN, declared)


def _reader(change: Mapping[str, Any]) -> str:
    """Name what reads after a change."""
    if "encoder" in change:
        return str(change["encoder"]["model"])
    lora = change["encoder.lora"]
    return f"LoRA of rank {lora['rank']}" if lora else "whole encoder"


def _helped(experiment: Experiment, design: str) -> tuple[str, list[str]]:
    """Give the target and its helpers, sorted. Raises ``ValueError`` without."""
    target, names = experiment.target, sorted(experiment.tasks)
    if target is None:
        raise ValueError(
            f"{design} compares the helpers of a target, and the experiment has no target; set "
            f"target=TASK, one of {', '.join(names)}."
        )
    if len(names) < 2:
        raise ValueError(
            f"{design} compares the helpers of {target!r}, and there is no other task; add one."
        )
    return target, [name for name in names if name != target]


def _with(
    tree: Tree, experiment: Experiment, target: str, helpers: Sequence[str], kind: Kind = "arm"
) -> Arm:
    """Train a target with these helpers."""
    kept = [target, *helpers]
    name = " + ".join(kept) if helpers else f"{target} alone"
    if len(kept) == len(experiment.tasks) > 2:
        name = ALL
    return Arm(name, kind, fewer.changes(tree, experiment, kept, target))


def _baselines(
    tree: Tree, experiment: Experiment, target: str, helpers: Sequence[str]
) -> list[Arm]:
    """Give what every design about helpers is held against, and the control."""
    return [
        _with(tree, experiment, target, [], "baseline"),
        *(_with(tree, experiment, target, [helper], "baseline") for helper in helpers),
        Arm(EQUAL, "baseline", _equal(tree, experiment)),
        *_control(tree, experiment, target, helpers),
    ]


def _equal(tree: Tree, experiment: Experiment) -> dict[str, Any]:
    """Mix all tasks in equal parts and weigh them alike: the plainest way to use them all."""
    even = {"temperature": None, "shares": None, "uniform": True}
    own = experiment.mixture
    mixture = {f"mixture.{k}": new for k, new in even.items() if getattr(own, k) != new}
    weights = {f"tasks.{n}.weight": 1.0 for n, own in experiment.tasks.items() if own.weight != 1}
    learnt = {"weighting": {"name": "fixed"}} if experiment.weighting.name != "fixed" else {}
    kept = list(experiment.tasks)
    score = fewer.changes(tree, experiment, kept, experiment.target)
    return {**score, **mixture, **weights, **learnt}


def _control(tree: Tree, experiment: Experiment, target: str, helpers: Sequence[str]) -> list[Arm]:
    """Give the target one helper whose labels say nothing, if there is one that has labels."""
    for helper in helpers:
        own = experiment.tasks[helper]
        if not own.data.shuffled and possible(tasks.get(own.family), own.data):
            arm = _with(tree, experiment, target, [helper])
            changes = {**arm.changes, f"tasks.{helper}.data.shuffled": True}
            return [Arm(f"{target} + {helper} shuffled", "control", changes)]
    return []


LAYOUTS: Mapping[str, Callable[[Tree, Experiment], Design]] = {
    "leave-one-out": _leave_one_out,
    "add-one-in": _add_one_in,
    "pairs": _pairs,
    "subsets": _subsets,
    "regularization": _regularization,
    "stages": _stages,
    "encoders": _encoders,
}
NAMES = tuple(LAYOUTS)
