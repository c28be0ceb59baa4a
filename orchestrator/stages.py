"""The stages of a run with nothing left open: what learns in each, on which tasks, how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import Any

from orchestrator import plan, presets
from orchestrator.experiment import Experiment, ExperimentError
from orchestrator.problems import Problem
from orchestrator.sections import Mixture, Stage

STACK = "stack.weight"
"""Ends the name of what joins the target's input and its helpers' outputs."""
PLATEAU = 3
"""Evaluations without a better score that end a stage ``until: plateau``; ``train.patience`` says
otherwise."""


@dataclass(frozen=True)
class Stretch:
    """One stage of one run."""

    name: str
    key: int | str
    """Keys the random choices of its plan."""
    train: tuple[str, ...]
    """As in ``Stage.train``."""
    tasks: tuple[str, ...]
    """Those that supply examples, sorted."""
    mixture: Mixture
    steps: int
    """At most, if ``patience`` is set."""
    patience: int | None
    """Evaluations without a better score that end it."""
    optimizer: dict[str, Any]
    """What holds, in place of their own settings, for everything that learns."""
    anew: bool = False
    """Whether it begins from the run's first weights, not where the one before it ended."""
    fold: int | None = None
    """What it leaves out: all rows whose text is in this fold; see ``folds.py``."""
    answers: bool = False
    """Whether it ends with answering the texts of its fold."""

    def depths(self, layers: int) -> frozenset[int]:
        """Give the depths of the encoder that learn: 0 for embeddings, 1 for the first layer."""
        if "encoder" in self.train:
            return frozenset(range(layers + 1))
        parts = [found for entry in self.train if (found := presets.LAYERS.match(entry))]
        return frozenset(
            depth + 1
            for part in parts
            for depth in range(int(part[1]), int(part[2] or part[1]) + 1)
        )

    def heads(self, tasks: Sequence[str], target: str | None) -> frozenset[str]:
        """Give the tasks whose heads learn."""
        return frozenset(presets.heads(self.train, tasks, target))

    def plain(self) -> dict[str, Any]:
        """Give all that changes a result, as plain data; names do not."""
        return {key: value for key, value in asdict(self).items() if key != "name"} | {
            "mixture": self.mixture.model_dump(mode="json")
        }

    @property
    def stacks(self) -> bool:
        """Whether the target's head reads its helpers."""
        return "target" in self.train


def of(experiment: Experiment, layers: int, folds: int = 0) -> list[Stretch]:
    """List the stages of an experiment whose encoder has so many layers.

    With ``folds``, those of as many models come before them, each of which leaves a fold out.
    Raises ``ExperimentError`` for layers that the encoder lacks, and steps that do not come out.
    """
    tasks, target = sorted(experiment.tasks), experiment.target
    try:
        stages = presets.listed(experiment.stages, tasks, target, layers)
    except ValueError as error:
        raise ExperimentError([Problem("stages", f"is {experiment.stages!r}, {error}")]) from error
    problems = list(_lacking(stages, layers))
    try:
        steps = presets.steps(stages, experiment.train.steps)
    except ValueError as error:
        problems.append(Problem("train.steps", str(error)))
    if problems:
        raise ExperimentError(problems)
    own = [
        _stretch(experiment, stage, place, count)
        for place, (stage, count) in enumerate(zip(stages, steps, strict=True))
    ]
    return [*_folds(experiment, own, folds), *own]


def _lacking(stages: Sequence[Stage], layers: int) -> list[Problem]:
    """Find layers that the encoder does not have."""
    return [
        Problem(
            f"stages.{place}.train", f"names {entry}; this encoder's last layer is {layers - 1}"
        )
        for place, stage in enumerate(stages)
        for entry in stage.train
        if (found := presets.LAYERS.match(entry)) and int(found[2] or found[1]) >= layers
    ]


def _stretch(experiment: Experiment, stage: Stage, place: int, steps: int) -> Stretch:
    mixture = stage.mixture or experiment.mixture
    named = presets.heads(stage.train, list(experiment.tasks), experiment.target)
    tasks = set(named or experiment.tasks)
    if stage.mixture is not None and mixture.shares is not None:
        tasks &= mixture.shares.keys()
    plateau = (experiment.train.patience or PLATEAU) if stage.until else None
    return Stretch(
        name=stage.name,
        key=place,
        train=tuple(stage.train),
        tasks=tuple(sorted(tasks)),
        mixture=mixture,
        steps=steps,
        patience=plateau or experiment.train.patience,
        optimizer=dict(stage.optimizer),
        anew=place == 0,
    )


def _folds(experiment: Experiment, own: Sequence[Stretch], folds: int) -> list[Stretch]:
    """Give the stages of the models that answer out of fold: all before the target's, once a fold.

    ``fold_steps`` are shared out as the steps of these stages are, the first ones rounded up.
    """
    if not folds:
        return []
    before = own[: [stage.stacks for stage in own].index(True)]
    taken = list(accumulate((stage.steps for stage in before), initial=0))
    total = experiment.stacking.fold_steps or taken[-1]
    ends = [-(-total * steps // taken[-1]) for steps in taken]
    kept = [place for place in range(len(before)) if ends[place + 1] > ends[place]]
    return [
        replace(
            stage,
            name=f"fold-{fold + 1}" + (f"-{stage.name}" if len(before) > 1 else ""),
            key=f"fold-{fold + 1}-{stage.key}",
            steps=ends[place + 1] - ends[place],
            patience=None,
            fold=fold,
            answers=place == kept[-1],
        )
        for fold in range(folds)
        for place, stage in ((place, before[place]) for place in kept)
    ]


def planned(experiment: Experiment, lengths: plan.Lengths, stage: Stretch) -> plan.Plan:
    """Make the plan of a stage from its settings and the tokens of its tasks' training rows.

    Raises ``ValueError`` if ``mixture.max_epochs`` ends before the stage's steps.
    """
    mixture, tasks = stage.mixture, stage.tasks
    sizes = {task: len(lengths[task]) for task in tasks}
    if mixture.shares is not None:
        total = sum(mixture.shares[task] for task in tasks)
        shares = {task: mixture.shares[task] / total for task in tasks}
    elif mixture.uniform:
        shares = dict.fromkeys(sizes, 1 / len(sizes))
    else:
        shares = plan.shares(sizes, mixture.temperature or 1.0)
    made = plan.Plan(
        {task: lengths[task] for task in tasks},
        shares,
        experiment.batch.tokens,
        experiment.train.seed,
        stage=stage.key,
        max_epochs=mixture.max_epochs,
    )
    if made.steps < stage.steps:
        raise ValueError(
            f"mixture.max_epochs is {mixture.max_epochs}, so every task has left after "
            f"{made.steps:.0f} steps, but train.steps is {experiment.train.steps}. "
            f"Set train.steps={made.steps:.0f} or raise mixture.max_epochs."
            if len(tasks) == len(experiment.tasks) and stage.steps == experiment.train.steps
            else f"mixture.max_epochs is {mixture.max_epochs}, so in stage {stage.name} every task "
            f"has left after {made.steps:.0f} steps of {stage.steps}. Raise mixture.max_epochs, or "
            f"give the stage fewer steps."
        )
    return made


def seen(
    experiment: Experiment,
    lengths: plan.Lengths,
    stretches: Sequence[Stretch],
    began: Sequence[int],
    step: int,
) -> dict[str, int]:
    """Count each task's examples up to a step, those of fold models left out.

    ``began`` holds the step at which each stage so far began.
    """
    total = dict.fromkeys(experiment.tasks, 0)
    for stage, first, last in zip(stretches, began, [*began[1:], step], strict=False):
        if stage.fold is None:
            for task, count in planned(experiment, lengths, stage).counts(last - first).items():
                total[task] += count
    return total
