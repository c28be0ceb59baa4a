"""What a run will do, before it does it: its mixture, its cost, and one real step on CPU."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from torch import nn

from orchestrator.aggregation import uninstalled
from orchestrator.checkpoint import Progress
from orchestrator.coherence import unscored
from orchestrator.engine import PlainEngine
from orchestrator.evaluate import Ranks
from orchestrator.experiment import Experiment, ExperimentError
from orchestrator.folds import training_rows
from orchestrator.plan import Plan
from orchestrator.prepare import Prepared
from orchestrator.stages import Stretch, planned
from orchestrator.training import Training
from orchestrator.work import Work

LARGEST = 8192
"""Tokens of the step that is taken; a larger global batch is cut to a step of this size."""

WARM = 256
"""Tokens of a step before it, so that first calls do not count."""

FORWARD = 1 / 3
"""What a token costs in evaluation, against training: no backward, which costs two forwards."""


@dataclass(frozen=True)
class Part:
    """What one task supplies."""

    stage: str
    task: str
    family: str
    rows: int
    share: float
    """Of the examples, while all tasks take part."""
    examples_per_step: float
    steps: int
    """Until it leaves for having had ``mixture.max_epochs``."""
    examples: int
    """In all steps together."""
    tokens: int
    """In all steps together, about: examples times the mean length of its rows."""
    epochs: float


@dataclass(frozen=True)
class Report:
    """What ``check`` found, as plain data."""

    parts: list[Part]
    steps: int
    examples_per_step: int
    tokens: int
    """Of the whole training, about."""
    parameters: int
    learning: int
    """Those that do not rest."""
    flops: float
    """Of the whole training, about: 6 for each parameter that multiplies and each token, 4 if it
    rests."""
    losses: dict[str, float]
    """Per task, before any training, in units: about 1."""
    tokens_per_second: float
    """Of one process with the threads of one worker, on this machine's CPU."""
    seconds: float
    """Of training and evaluation by all workers, if each is as fast as this process."""
    memory_mb: float
    """Of one process at its peak; a worker needs no more, unless its micro-batches are larger."""
    precision: str
    notes: list[str]


def check(experiment: Experiment, prepared: Prepared) -> Report:
    """Plan the run, take one step of it, and estimate what all of it costs.

    Raises ``ExperimentError`` for a score that no family gives, ``ValueError`` for a mixture that
    ends before the steps do.
    """
    families = {task: prepared.family(task) for task in experiment.tasks}
    problems = [*unscored(experiment, families), *uninstalled(experiment.weighting)]
    if problems:
        raise ExperimentError(problems)
    with tempfile.TemporaryDirectory() as folder, _threads(experiment):
        worker = _work(experiment, prepared, Path(folder))
        layers, stages = prepared.layers, worker.stages
        possible = [stage for stage in stages if not stage.stacks]  # that one wants folds' answers
        dearest = max(possible, key=lambda stage: len(stage.depths(layers)))
        training = Training(worker, dearest, Progress(0), keep=False)
        plan = training.plan
        training.dealer.plan = replace(plan, batch_tokens=min(WARM, plan.batch_tokens))
        training.step()
        training.dealer.plan = replace(plan, batch_tokens=min(LARGEST, plan.batch_tokens))
        began = time.perf_counter()
        told, part = training.step()
        rate = part.tokens / (time.perf_counter() - began)
    sums = dict(zip(training.tasks, told.tolist(), strict=False))
    parts = []
    for stage in worker.stages:
        rows = training_rows(experiment, prepared, stage)
        dealt = planned(experiment, {task: own.lengths for task, own in rows.items()}, stage)
        parts += [_part(task, stage, prepared, dealt) for task in stage.tasks]
    whole = sum(part.tokens for part in parts)
    model = training.engine.model
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    every = [(p.numel(), p.requires_grad, id(p) in tables) for p in model.parameters()]
    cost = sum(size * (6.0 if learns else 4.0) for size, learns, table in every if not table)
    work = whole + FORWARD * _evaluated(experiment, prepared)
    return Report(
        parts=parts,
        steps=sum(stage.steps for stage in worker.stages),
        examples_per_step=plan.examples_per_step,
        tokens=whole,
        parameters=sum(size for size, _, _ in every),
        learning=sum(size for size, learns, _ in every if learns),
        flops=cost * whole,
        losses={task: sums[task] / max(1, count) for task, count in sorted(part.terms.items())},
        tokens_per_second=rate,
        seconds=work / (rate * experiment.scaling.workers),
        memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        precision=experiment.resolved()["train"]["precision"],
        notes=list(prepared.notes),
    )


def _work(experiment: Experiment, prepared: Prepared, folder: Path) -> Work:
    """Describe a worker of its own, on the plain engine."""
    clip = experiment.regularization.clip
    return Work(
        run=folder,
        experiment=experiment,
        prepared=prepared,
        fingerprint="",
        world=Ranks(),
        device=torch.device("cpu"),
        make_engine=lambda model, groups: PlainEngine(model, groups, clip),
        stop=lambda: False,
    )


@contextmanager
def _threads(experiment: Experiment) -> Iterator[None]:
    """Take as many threads as one worker will."""
    before = torch.get_num_threads()
    scaling = experiment.scaling
    torch.set_num_threads(scaling.cpus if scaling.threads == "auto" else scaling.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _part(task: str, stage: Stretch, prepared: Prepared, plan: Plan) -> Part:
    rows = len(plan.lengths[task])
    left = (part.first for part in plan.segments if task not in part.shares)
    steps = min(stage.steps, next(left, stage.steps) * plan.steps_per_block)
    examples = plan.counts(stage.steps)[task]
    return Part(
        stage=stage.name,
        task=task,
        family=prepared.tasks[task].family,
        rows=rows,
        share=plan.shares[task],
        examples_per_step=plan.shares[task] * plan.examples_per_step,
        steps=steps,
        examples=examples,
        tokens=round(examples * float(plan.lengths[task].mean())),
        epochs=examples / rows,
    )


def _evaluated(experiment: Experiment, prepared: Prepared) -> float:
    """Count the tokens of all looks at validation, and of the one at the test splits."""
    train = experiment.train
    looks = -(-train.steps // train.evaluate_every)
    tokens = 0.0
    for task in prepared.tasks.values():
        validation = task.splits["validation"]
        limit = validation.rows if train.evaluate_rows == "all" else train.evaluate_rows
        tokens += looks * validation.token_count * min(1.0, limit / validation.rows)
        tokens += task.splits["test"].token_count if "test" in task.splits else 0
    return tokens


def document(report: Report) -> dict[str, Any]:
    """Give a report as one JSON document."""
    return asdict(report)


def shown(report: Report) -> RenderableType:
    """Set a report out for a person."""
    table = Table(box=None, pad_edge=False)
    several = len({part.stage for part in report.parts}) > 1
    for heading in (*(("stage",) if several else ()), "task", "family"):
        table.add_column(heading)
    for heading in ("rows", "share", "examples a step", "steps", "tokens", "epochs", "first loss"):
        table.add_column(heading, justify="right")
    for part in report.parts:
        loss = report.losses.get(part.task)
        table.add_row(
            *((part.stage,) if several else ()),
            part.task,
            part.family,
            f"{part.rows:,}",
            f"{part.share:.3f}",
            f"{part.examples_per_step:.1f}",
            f"{part.steps:,}",
            f"{part.tokens:,}",
            f"{part.epochs:.2f}",
            "-" if loss is None else f"{loss:.2f}",
        )
    rests = report.learning < report.parameters
    rest = f" ({report.learning / 1e6:.2g} M learn)" if rests else ""
    lines = [
        f"{report.steps:,} steps of {report.examples_per_step} examples, "
        f"{report.tokens:,} tokens; {report.parameters / 1e6:.1f} M parameters{rest}, "
        f"{report.flops / 1e15:.3g} PFLOP, {report.precision}.",
        f"One step was taken here: {report.tokens_per_second:,.0f} tokens/s in one process on "
        f"CPU. At that rate all workers need about {_duration(report.seconds)}, "
        f"evaluation included, and {report.memory_mb:,.0f} MB each.",
    ]
    return Group(table, "", *lines, *report.notes)


def _duration(seconds: float) -> str:
    """Say a time in the unit that fits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
