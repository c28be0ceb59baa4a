"""Settings that are each fine and do not fit together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tasks
from orchestrator import encoding, presets
from orchestrator.problems import Problem, nearest, shown
from orchestrator.sections import AGGREGATED, Mixture
from orchestrator.settings import TASK_NAME, Experiment
from tasks.agreement import Comparable
from tasks.family import Family
from tasks.helper import Helper

LESS_IS_BETTER = frozenset({"rmse", "mae", "kl", "perplexity", "loss"})
"""Metrics that rank nothing here: the best checkpoint is the one with the highest score."""

COMPUTED = {
    "train_batch_size": "batch.tokens",
    "train_micro_batch_size_per_gpu": "batch.micro_tokens",
    "gradient_accumulation_steps": "batch.micro_tokens",
    "gradient_clipping": "regularization.clip",
    "bf16": "train.precision",
    "fp16": "train.precision",
    "amp": "train.precision",
    "torch_autocast": "train.precision",
    "data_types": "train.precision",
    "optimizer": "optimizer",
    "scheduler": "optimizer.schedule",
    "zero_allow_untested_optimizer": "optimizer",
    "zero_force_ds_cpu_optimizer": "optimizer",
    "prescale_gradients": "scaling.workers",
    "gradient_predivide_factor": "scaling.workers",
    "seed": "train.seed",
    "zero_optimization.stage": "deepspeed.zero_stage",
}
"""Keys of DeepSpeed's dict that follow from ours, and the setting to use instead."""

REFUSED = {
    "steps_per_print": "DeepSpeed prints nothing here; progress and speed are in the journal",
    "communication_data_type": "gradients are reduced in fp32, whatever the precision",
    "seq_parallel_communication_data_type": "gradients are reduced in fp32, whatever the precision",
    "gradient_allreduce_op": "gradients are averaged over the workers",
}
"""Keys that would be overwritten, or would break what the engine promises, and why."""
OFFLOAD = "offloading needs an operator of DeepSpeed's own, and nothing is compiled here"


def incoherent(experiment: Experiment, names: Sequence[Any]) -> list[Problem]:
    """Find what does not fit together. ``names`` are the tasks as written, also broken ones."""
    return [
        *_names(names),
        *_mixture(experiment.mixture, names),
        *_target(experiment, names),
        *_score(experiment, names),
        *_train(experiment),
        *_stages(experiment, names),
        *_stacking(experiment, names),
        *_whole_matrices(experiment),
        *_read_twice(experiment),
        *encoding.unsuited(experiment),
        *_deepspeed(experiment.deepspeed.config),
        *_tracking(experiment.tracking.uri),
    ]


def _names(names: Sequence[Any]) -> Iterator[Problem]:
    for name in names:
        if not isinstance(name, str) or not re.match(TASK_NAME, name):
            yield Problem(
                f"tasks.{name}",
                f"is named {name!r}; expected a letter, then letters, digits, _ and -",
            )
        elif name == "encoder":
            yield Problem(f"tasks.{name}", "has the name of the shared encoder; give it another")


def _mixture(
    mixture: Mixture, names: Sequence[Any], place: str = "mixture", whole: bool = True
) -> Iterator[Problem]:
    """``whole``: shares name every task, not only those that take part."""
    ways = [
        way
        for way, set_ in (
            ("temperature", mixture.temperature is not None),
            ("shares", mixture.shares is not None),
            ("uniform", mixture.uniform),
        )
        if set_
    ]
    if len(ways) > 1:
        found = " and ".join(ways)
        yield Problem(place, f"sets {found}; expected one of temperature, shares, uniform")
    if mixture.shares is None:
        return
    for name, share in mixture.shares.items():
        own = f"{place}.shares.{name}"
        if name not in names:
            yield Problem(own, f"is no task; {nearest(name, names, f'{place}.shares.')}")
        if not 0 < share <= 1:
            yield Problem(own, f"is {shown(share)}; expected more than 0 and at most 1")
    lacking = [str(name) for name in names if name not in mixture.shares]
    if lacking and whole:
        yield Problem(f"{place}.shares", f"names no {', '.join(lacking)}; expected every task")
    total = math.fsum(mixture.shares.values())
    if abs(total - 1) > 1e-6:
        yield Problem(f"{place}.shares", f"has the sum {total:.6g}; expected 1")


def _target(experiment: Experiment, names: Sequence[Any]) -> Iterator[Problem]:
    if experiment.target is not None and experiment.target not in names:
        hint = nearest(experiment.target, names)
        yield Problem("target", f"is {experiment.target!r}; expected a task; {hint}")


def _score(experiment: Experiment, names: Sequence[Any]) -> Iterator[Problem]:
    if experiment.score is None:
        return
    task, slash, metric = experiment.score.partition("/")
    found = f"is {experiment.score!r}"
    if not (task and slash and metric) or "/" in metric:
        yield Problem("score", f"{found}; expected task/metric, such as {_example(experiment)}")
        return
    if task not in names:
        yield Problem("score", f"{found}; {task!r} is no task; {nearest(task, names)}")
    if metric in LESS_IS_BETTER:
        yield Problem("score", f"{found}; expected a metric of which more is better")


def unscored(experiment: Experiment, families: Mapping[str, Family[Any]]) -> list[Problem]:
    """Find a score that its task's family does not give; ``families`` are bound to their data."""
    if experiment.score is None:
        return []
    task, _, metric = experiment.score.partition("/")
    known = sorted(set(families[task].score([], [])) - LESS_IS_BETTER)
    if metric in known:
        return []
    return [Problem("score", f"is {experiment.score!r}; {nearest(metric, known, f'{task}/')}")]


def _example(experiment: Experiment) -> str:
    """Name a score that this experiment could have."""
    for name, task in experiment.tasks.items():
        main = getattr(tasks.get(task.family), "main", "f1")
        return f"{name}/{main if isinstance(main, str) else 'f1'}"
    return "roles/f1"


def _train(experiment: Experiment) -> Iterator[Problem]:
    train = experiment.train
    if train.evaluate_every > train.steps:
        yield Problem(
            "train.evaluate_every",
            f"is {train.evaluate_every}; expected at most train.steps, which is {train.steps}",
        )


def _stages(experiment: Experiment, names: Sequence[Any]) -> Iterator[Problem]:
    """Find what can be known without the encoder; ``stages.of`` finds the rest."""
    written, tasks = experiment.stages, [str(name) for name in names]
    if isinstance(written, str):
        try:
            presets.listed(written, tasks, experiment.target, layers=1)
        except ValueError as error:
            yield Problem("stages", f"is {written!r}, {error}")
        return
    yield from presets.misfits(written, tasks, experiment.target)
    for place, stage in enumerate(written):
        if stage.mixture is not None:
            yield from _mixture(stage.mixture, names, f"stages.{place}.mixture", whole=False)
    try:
        presets.steps(written, experiment.train.steps)
    except ValueError as error:
        yield Problem("train.steps", str(error))


def _stacking(experiment: Experiment, names: Sequence[Any]) -> Iterator[Problem]:
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
        elif name in experiment.tasks and kind != "none":
            family = experiment.tasks[name].family
            if not issubclass(tasks.get(family), Helper):
                yield Problem(
                    place,
                    f"is of the family {family}, whose outputs cannot be features; leave it out",
                )


def _whole_matrices(experiment: Experiment) -> Iterator[Problem]:
    own = {f"tasks.{task}.optimizer": t.optimizer for task, t in experiment.tasks.items()}
    stage = experiment.deepspeed.zero_stage
    for place, optimizer in ({"optimizer": experiment.optimizer} | own).items():
        if optimizer.name == "adafactor" and stage > 0:
            yield Problem(
                f"{place}.name",
                f"is 'adafactor' and deepspeed.zero_stage is {stage}; it needs whole matrices, "
                f"which only stage 0 leaves whole. Set deepspeed.zero_stage=0, or another name",
            )
    if experiment.regularization.mixout and stage == 3:
        yield Problem(
            "regularization.mixout",
            f"is {experiment.regularization.mixout:g} and deepspeed.zero_stage is 3, which keeps "
            f"no whole weights to mix. Set deepspeed.zero_stage=2 or regularization.mixout=0",
        )
    if experiment.weighting.name in AGGREGATED and stage == 3:
        yield Problem(
            "weighting.name",
            f"is {experiment.weighting.name!r} and deepspeed.zero_stage is 3, which keeps no whole "
            f"weights to have gradients of. Set deepspeed.zero_stage=2 or weighting=fixed",
        )


def _read_twice(experiment: Experiment) -> Iterator[Problem]:
    """Find R-Drop on tasks whose answers cannot be compared; these do not inherit it."""
    for name, task in experiment.tasks.items():
        strength = task.regularization.r_drop
        if strength and not issubclass(tasks.get(task.family), Comparable):
            fitting = [own for own in tasks.names() if issubclass(tasks.get(own), Comparable)]
            yield Problem(
                f"tasks.{name}.regularization.r_drop",
                f"is {strength:g}, but the family {task.family} gives no chances that two readings "
                f"could agree on; expected one of {', '.join(fitting)}. Leave it out",
            )


def _deepspeed(config: Mapping[str, Any]) -> Iterator[Problem]:
    inner = config.get("zero_optimization", {})
    if not isinstance(inner, Mapping):
        yield Problem(
            "deepspeed.config.zero_optimization",
            f"is {shown(inner)}; expected a mapping (key: value); "
            "set the stage by deepspeed.zero_stage",
        )
        inner = {}
    for key in sorted([*map(str, config), *(f"zero_optimization.{key}" for key in inner)]):
        place = f"deepspeed.config.{key}"
        if key in COMPUTED:
            yield Problem(place, f"is computed here; set {COMPUTED[key]} instead")
        elif key in REFUSED:
            yield Problem(place, f"cannot be set: {REFUSED[key]}; leave it out")
        elif re.match(r"zero_optimization\.(cpu_)?offload", key):
            yield Problem(place, f"cannot be set: {OFFLOAD}; leave it out")


def _tracking(uri: str | None) -> Iterator[Problem]:
    """Find a user or password in the address, which every view of the run would show."""
    scheme, _, rest = (uri or "").partition("://")
    user, at, _ = rest.partition("@")
    if scheme in ("http", "https"):
        found = bool(at)
        remedy = "give them in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    else:  # a file's path may have an @, and a database's user alone is no secret
        database = scheme not in ("sqlite", "file")
        found = database and ((bool(at) and ":" in user) or "password=" in rest)
        remedy = "leave tracking.uri out and give the whole address in MLFLOW_TRACKING_URI"
    if not found:
        return
    yield Problem(
        "tracking.uri",
        "holds a user or password; expected an address without, since settings are recorded in "
        f"the run's folder, in MLflow and on its page; {remedy}",
    )
