"""The same experiment with fewer tasks: what else must change so that it stays one."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator import presets
from orchestrator.sections import Stage
from orchestrator.settings import Experiment
from orchestrator.staging import LAYERS

Tree = Mapping[str, Any]


def changes(
    tree: Tree, experiment: Experiment, kept: Sequence[str], target: str | None
) -> dict[str, Any]:
    """Give the dotted settings that leave these tasks, and make ``target`` the one they help.

    ``experiment`` is what ``tree`` was parsed to. Shares are brought to the sum 1, what names a
    task that is gone forgets it, and a score of another task than the target goes, so that what
    helps is compared by the target alone. The steps are as many as before.
    """
    found: dict[str, Any] = {f"tasks.{n}": None for n in experiment.tasks if n not in kept}
    if experiment.score is not None and target not in (None, experiment.score.partition("/")[0]):
        found["score"] = None
    if target != experiment.target:
        found["target"] = target
    elif len(kept) == len(experiment.tasks):
        return found
    found |= _mixture(experiment, kept)
    found |= _strengths(experiment, kept)
    found |= _stacking(experiment, kept, target)
    if isinstance(experiment.stages, str):
        return found | _preset(experiment.stages, kept, target)
    return found | _listed(tree, experiment, kept, target)


def preset(tree: Tree, experiment: Experiment, name: str) -> dict[str, Any]:
    """Give the changes to a named sequence of stages, with as many steps as before."""
    alone = isinstance(experiment.stages, str) or "steps" in (tree.get("train") or {})
    steps = {} if alone else {"train.steps": experiment.train.steps}
    return {"stages": name, **steps}


def _mixture(experiment: Experiment, kept: Sequence[str]) -> dict[str, Any]:
    """Share examples among those who stay. One task has them all, however often it sees each."""
    own = experiment.mixture
    if len(kept) == 1:
        keys = ("shares", "max_epochs")
        return {f"mixture.{key}": None for key in keys if getattr(own, key) is not None}
    if own.shares is None or len(kept) == len(experiment.tasks):
        return {}
    return {"mixture.shares": _whole(own.shares, kept)}


def _whole(shares: Mapping[str, float], kept: Sequence[str]) -> dict[str, float]:
    left = {name: share for name, share in shares.items() if name in kept}
    total = math.fsum(left.values())
    return {name: share / total for name, share in left.items()}


def _strengths(experiment: Experiment, kept: Sequence[str]) -> dict[str, Any]:
    """Turn off what acts on none of those who stay, which would be refused."""
    found = {}
    for key in ("label_smoothing", "r_drop"):
        own = [getattr(experiment.tasks[name].regularization, key) for name in kept]
        if getattr(experiment.regularization, key) and not any(own):
            found[f"regularization.{key}"] = 0.0
    return found


def _stacking(experiment: Experiment, kept: Sequence[str], target: str | None) -> dict[str, Any]:
    """Forget helpers that are gone; what another target reads is not said, so it is the default."""
    features = experiment.stacking.features
    if isinstance(features, str):
        return {}
    if target != experiment.target:
        return {"stacking.features": "probabilities"}
    left = {name: kind for name, kind in features.items() if name in kept}
    return {} if left == features else {"stacking.features": left}


def _preset(name: str, kept: Sequence[str], target: str | None) -> dict[str, Any]:
    """Train a target without helpers as any task, where a sequence of stages needs helpers."""
    try:
        presets.listed(name, list(kept), target, LAYERS)
    except ValueError:
        return {"stages": "joint"}
    return {}


def _listed(
    tree: Tree, experiment: Experiment, kept: Sequence[str], target: str | None
) -> dict[str, Any]:
    """Leave in each listed stage what stays; one in which no head is left goes to the last."""
    stages = experiment.stages
    assert isinstance(stages, list)
    counts = presets.steps(stages, experiment.train.steps)
    found: list[dict[str, Any]] = []
    steps: list[int | None] = []
    spare = 0
    for stage, body, count in zip(stages, tree["stages"], counts, strict=True):
        first = not found or len(kept) == 1
        train = _train(stage, kept, target, first)
        before = presets.heads(stage.train, list(experiment.tasks), experiment.target)
        learning = presets.heads(train, kept, target)
        if before and not learning:
            spare += count
            continue
        named = presets.heads([entry for entry in train if entry != "heads"], kept, target)
        found.append(_left(stage, body, train, learning or set(kept), named))
        steps.append(stage.max_steps if stage.until else stage.steps)
    if not found:
        return preset(tree, experiment, "joint")
    if spare and None not in steps:
        last = found[-1]
        key = "max_steps" if last.get("until") not in (None, "none") else "steps"
        last[key] += spare
    return {"stages": found}


def _train(stage: Stage, kept: Sequence[str], target: str | None, first: bool) -> list[str]:
    """Say what of a stage still learns; a target that has no helpers to read is a plain head."""
    plain = {"target": f"head:{target}"} if first else {}
    named = [f"head:{name}" for name in kept]
    entries = [
        plain.get(entry, entry)
        for entry in stage.train
        if not entry.startswith("head:") or entry in named
    ]
    return list(dict.fromkeys(entries))


def _left(
    stage: Stage, body: Tree, train: list[str], able: set[str], named: set[str]
) -> dict[str, Any]:
    """Write a stage for those who stay, of whom some are ``able`` to supply examples.

    Shares that say nothing of a head that is ``named`` are left out.
    """
    found = copy.deepcopy(dict(body))
    if train != stage.train:
        found["train"] = train
    if stage.mixture is None or stage.mixture.shares is None:
        return found
    given = [name for name in stage.mixture.shares if name in able]
    if given and named <= set(given):
        found["mixture"] = {**body["mixture"], "shares": _whole(stage.mixture.shares, given)}
    else:
        del found["mixture"]
    return found
