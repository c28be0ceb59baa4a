"""Mixtures, stages and stacking that do not fit the tasks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import tasks
from orchestrator import presets
from orchestrator.problems import Problem, nearest, shown
from orchestrator.sections import Mixture, Stacking
from orchestrator.settings import Experiment
from tasks.helper import Helper

LAYERS = 12
"""Of an encoder that is not known yet: as many as BERT's."""


def mixture(
    own: Mixture, names: Sequence[Any], place: str = "mixture", whole: bool = True
) -> Iterator[Problem]:
    """``whole``: shares name every task, not only those that take part."""
    ways = [
        way
        for way, set_ in (
            ("temperature", own.temperature is not None),
            ("shares", own.shares is not None),
            ("uniform", own.uniform),
        )
        if set_
    ]
    if len(ways) > 1:
        found = " and ".join(ways)
        yield Problem(place, f"sets {found}; expected one of temperature, shares, uniform")
    if own.shares is None:
        return
    for name, share in own.shares.items():
        where = f"{place}.shares.{name}"
        if name not in names:
            yield Problem(where, f"is no task; {nearest(name, names, f'{place}.shares.')}")
        if not 0 < share <= 1:
            yield Problem(where, f"is {shown(share)}; expected more than 0 and at most 1")
    lacking = [str(name) for name in names if name not in own.shares]
    if lacking and whole:
        yield Problem(f"{place}.shares", f"names no {', '.join(lacking)}; expected every task")
    total = math.fsum(own.shares.values())
    if abs(total - 1) > 1e-6:
        yield Problem(f"{place}.shares", f"has the sum {total:.6g}; expected 1")


def stages(experiment: Experiment, names: Sequence[Any]) -> Iterator[Problem]:
    """Find what can be known without the encoder; ``stages.of`` finds the rest."""
    written, tasks = experiment.stages, [str(name) for name in names]
    try:
        found = presets.listed(written, tasks, experiment.target, LAYERS)
    except ValueError as error:
        yield Problem("stages", f"is {written!r}, {error}")
        return
    yield from presets.misfits(found, tasks, experiment.target)
    for place, stage in enumerate(found):
        if stage.mixture is not None:
            yield from mixture(stage.mixture, names, f"stages.{place}.mixture", whole=False)
        if stage.optimizer.get("name") == "adafactor":
            yield from adafactor(f"stages.{place}.optimizer.name", experiment.deepspeed.zero_stage)
    if isinstance(written, str):
        return  # how many stages there are may depend on the encoder's layers
    try:
        presets.steps(found, experiment.train.steps)
    except ValueError as error:
        yield Problem("train.steps", str(error))


def adafactor(place: str, zero_stage: int) -> Iterator[Problem]:
    """Refuse it where ZeRO leaves no matrix whole: it keeps sums over their rows and columns."""
    if zero_stage > 0:
        yield Problem(
            place,
            f"is 'adafactor' and deepspeed.zero_stage is {zero_stage}; it needs whole matrices, "
            f"which only stage 0 leaves whole. Set deepspeed.zero_stage=0, or another name",
        )


def stacking(experiment: Experiment, names: Sequence[Any]) -> Iterator[Problem]:
    own = experiment.stacking
    if own.folds == 1:
        yield Problem(
            "stacking.folds", "is 1; expected 0, or at least 2 that answer for each other"
        )
    helpers = [str(name) for name in names if name != experiment.target]
    for name, kind in own.features.items() if isinstance(own.features, dict) else ():
        place = f"stacking.features.{name}"
        if name not in helpers:
            yield Problem(place, f"is no helper; {nearest(name, helpers, 'stacking.features.')}")
        elif name in experiment.tasks and kind != "none" and (why := _silence(experiment, name)):
            yield Problem(place, f"{why}; leave it out")


def told(experiment: Experiment) -> list[str]:
    """Tell of settings of the target stage that say nothing, and of helpers that are not heard."""
    own, names, target = experiment.stacking, list(experiment.tasks), experiment.target
    found = presets.listed(experiment.stages, names, target, LAYERS)
    stacking = [stage for stage in found if "target" in stage.train]
    if not stacking:
        nothing = (
            "stacking is set, but no stage trains `target`, so nothing is read; set stages=tlmt."
        )
        return [nothing] if own != Stacking() else []
    wanted = own.features if isinstance(own.features, dict) else dict.fromkeys(names, own.features)
    helpers = [name for name, kind in wanted.items() if name != target and kind != "none"]
    silent = {name: why for name in helpers if (why := _silence(experiment, name))}
    notes = [f"tasks.{name} {why}; the target does not read it." for name, why in silent.items()]
    learning = {t for stage in stacking for t in presets.heads(stage.train, names, target)}
    moves = any(entry.startswith("encoder") for stage in stacking for entry in stage.train)
    if not own.detach and not moves and not learning & set(helpers) - silent.keys():
        notes.append(
            "stacking.detach is false, but helpers and encoder rest where the target reads them, "
            "so they learn nothing from it."
        )
    return notes


def _silence(experiment: Experiment, helper: str) -> str | None:
    """Say why a helper's outputs cannot be features of the target."""
    own, target = experiment.tasks[helper], experiment.tasks.get(str(experiment.target))
    family = tasks.get(own.family)
    if not issubclass(family, Helper):
        return f"is of the family {own.family}, whose outputs cannot be features"
    return None if target is None else family.silent(own.data, tasks.get(target.family))
