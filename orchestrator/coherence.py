"""Settings that are each fine and do not fit together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tasks
from orchestrator import encoding, penalties, staging
from orchestrator.problems import Problem, nearest, shown
from orchestrator.sections import AGGREGATED
from orchestrator.settings import TASK_NAME, Experiment
from tasks.agreement import Comparable
from tasks.family import Family

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
OFFLOAD = "offloading needs DeepSpeedCPUAdam, and nothing is compiled here"


def incoherent(experiment: Experiment, names: Sequence[Any]) -> list[Problem]:
    """Find what does not fit together. ``names`` are the tasks as written, also broken ones."""
    return [
        *_names(names),
        *staging.mixture(experiment.mixture, names),
        *_target(experiment, names),
        *_score(experiment, names),
        *_train(experiment),
        *staging.stages(experiment, names),
        *staging.stacking(experiment, names),
        *_whole_matrices(experiment),
        *_read_twice(experiment),
        *_smoothed(experiment),
        *_penalties(experiment.regularization.penalties),
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


def _whole_matrices(experiment: Experiment) -> Iterator[Problem]:
    own = {f"tasks.{task}.optimizer": t.optimizer for task, t in experiment.tasks.items()}
    stage = experiment.deepspeed.zero_stage
    for place, optimizer in ({"optimizer": experiment.optimizer} | own).items():
        if optimizer.name == "adafactor":
            yield from staging.adafactor(f"{place}.name", stage)
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
    yield from _reaches_none(experiment, "r_drop")
    for name, task in experiment.tasks.items():
        strength = task.regularization.r_drop
        if strength and not issubclass(tasks.get(task.family), Comparable):
            fitting = [own for own in tasks.names() if issubclass(tasks.get(own), Comparable)]
            yield Problem(
                f"tasks.{name}.regularization.r_drop",
                f"is {strength:g}, but the family {task.family} gives no chances that two readings "
                f"could agree on; expected one of {', '.join(fitting)}. Leave it out",
            )


def _reaches_none(experiment: Experiment, key: str) -> Iterator[Problem]:
    """Find a strength for all tasks that none of their families can have."""
    strength = getattr(experiment.regularization, key)
    own = [getattr(task.regularization, key) for task in experiment.tasks.values()]
    if strength and own and not any(own):
        yield Problem(
            f"regularization.{key}",
            f"is {strength:g}, and acts on none of these tasks' families. Leave it out",
        )


def _smoothed(experiment: Experiment) -> Iterator[Problem]:
    """Find label smoothing where there are no labels; these tasks do not inherit it."""
    yield from _reaches_none(experiment, "label_smoothing")
    for name, task in experiment.tasks.items():
        strength = task.regularization.label_smoothing
        if strength and not tasks.get(task.family).smooths:
            yield Problem(
                f"tasks.{name}.regularization.label_smoothing",
                f"is {strength:g}, but the family {task.family} learns numbers, which have no "
                "labels to smooth. Leave it out",
            )


def _penalties(own: Mapping[str, float]) -> Iterator[Problem]:
    for name in own:
        if ":" not in name:
            known = "; set regularization.l2_sp" if name == "l2_sp" else ""
            text = f"is no function of your own; expected package.module:function{known}"
            yield Problem(f"regularization.penalties.{name}", text)
            continue
        try:
            penalties.get(name)
        except ValueError as error:
            yield Problem(f"regularization.penalties.{name}", str(error))


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
        elif re.match(r"zero_optimization\.(cpu_)?offload", key) and not _stays(inner, key):
            yield Problem(place, f"cannot be set: {OFFLOAD}; leave it out")


def _stays(inner: Mapping[str, Any], key: str) -> bool:
    """Say whether an entry of ``zero_optimization`` says that nothing is to be offloaded."""
    own = inner[key.partition(".")[2]]
    return own in (False, None) or (isinstance(own, Mapping) and own.get("device") == "none")


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
