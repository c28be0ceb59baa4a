"""One worker's training of one run, as a generator of news; no Ray, no MLflow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from orchestrator import checkpoint, keyed, plan, weights
from orchestrator.batch import Batch, collate
from orchestrator.checkpoint import Progress
from orchestrator.engine import Engine
from orchestrator.evaluate import Evaluation, Examples, Ranks, evaluate, main_score
from orchestrator.experiment import Experiment
from orchestrator.joint_step import coefficients, joint_step
from orchestrator.model import MultiTaskModel
from orchestrator.optimizer import groups
from orchestrator.prepare import Prepared


@dataclass
class News:
    """What one step has to tell. ``values`` and ``events`` matter on rank 0 only."""

    step: int
    values: dict[str, float] = field(default_factory=dict)
    """Key ``task/split/metric`` to number."""
    events: dict[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    """A checkpoint written at this step, on every rank."""
    settle: bool = False
    """Whether all that was told so far must be on record before the run goes on."""


@dataclass(frozen=True)
class Work:
    """One run, as one of its workers sees it."""

    run: Path
    experiment: Experiment
    prepared: Prepared
    fingerprint: str
    """The run's hash (see ``identity.py``)."""
    world: Ranks
    device: torch.device
    make_engine: Callable[[MultiTaskModel, list[dict[str, Any]]], Engine]
    stop: Callable[[], bool]
    """Whether someone asked this process to end after the current step."""


def planned(experiment: Experiment, train: Mapping[str, Examples]) -> plan.Plan:
    """Make the plan of a run from its settings and the lengths of its training rows.

    Raises ``ValueError`` if ``mixture.max_epochs`` ends before ``train.steps``.
    """
    mixture = experiment.mixture
    sizes = {task: len(rows) for task, rows in train.items()}
    if mixture.shares is not None:
        shares = dict(mixture.shares)
    elif mixture.uniform:
        shares = dict.fromkeys(sizes, 1 / len(sizes))
    else:
        shares = plan.shares(sizes, mixture.temperature or 1.0)
    made = plan.Plan(
        {task: rows.lengths for task, rows in train.items()},
        shares,
        experiment.batch.tokens,
        experiment.train.seed,
        max_epochs=mixture.max_epochs,
    )
    if made.steps < experiment.train.steps:
        raise ValueError(
            f"mixture.max_epochs is {mixture.max_epochs}, so every task has left after "
            f"{made.steps:.0f} steps, but train.steps is {experiment.train.steps}. "
            f"Set train.steps={made.steps:.0f} or raise mixture.max_epochs."
        )
    return made


@dataclass(frozen=True)
class GlobalPart:
    """What all ranks know of a global batch."""

    terms: dict[str, int]
    """Terms of each present task's loss sum."""
    coefficients: dict[str, float]
    """See ``joint_step``."""
    tokens: int
    borrowed: int
    """Tokens read a second time, at weight 0, by ranks that would have had nothing to do."""


class Training:
    """The state of one worker between steps."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.experiment = work.experiment
        prepared = work.prepared
        self.tasks = sorted(work.experiment.tasks)
        self.families = {task: prepared.family(task) for task in self.tasks}
        self.train = {task: prepared.open(task, "train") for task in self.tasks}
        self.validation = {task: prepared.open(task, "validation") for task in self.tasks}
        self.plan = planned(work.experiment, self.train)
        resumed = checkpoint.newest(work.run)
        if resumed is None:
            self.progress = Progress(0)
            model = weights.first(work.experiment, self.families, Path(prepared.reader))
        else:
            self.progress = checkpoint.progress(resumed)
            model = weights.restored(work.experiment, self.families, resumed)
        model.train().to(work.device)
        settings: dict[str | None, Any] = {None: work.experiment.optimizer}
        settings |= {task: work.experiment.task_optimizer(task) for task in self.tasks}
        self.engine = work.make_engine(model, groups(model.named(), settings))
        if resumed is not None:
            self.engine.restore(checkpoint.load_state(resumed))

    def step(self) -> tuple[Tensor, GlobalPart]:
        """Take the next step; give the global sums with the stop flag last, and what it read."""
        step, world = self.progress.step, self.work.world
        self.engine.optimizer.set_rates(step, self.experiment.train.steps)
        batches, part = self._batches(step)
        seed = self.experiment.train.seed
        seeds = [
            keyed.torch_seed(seed, "step", step, world.rank, place) for place in range(len(batches))
        ]
        sums = joint_step(self.engine, batches, part.coefficients, world.ranks, seeds)
        told = torch.cat([sums, sums.new_tensor([float(self.work.stop())])])
        if world.ranks > 1:
            dist.all_reduce(told)
        self.progress = replace(self.progress, step=step + 1)
        return told, part

    def _batches(self, step: int) -> tuple[list[Batch], GlobalPart]:
        """Cut this rank's micro-batches out of the global batch of a step."""
        planned, tasks = self.plan.step(step), self.plan.tasks
        picked = [(tasks[t], int(i)) for t, i in zip(planned.tasks, planned.examples, strict=True)]
        terms: dict[str, int] = {}
        numbers: dict[str, int] = {}
        for task, index in picked:
            terms[task] = terms.get(task, 0) + int(self.train[task].terms[index])
            numbers[task] = numbers.get(task, 0) + 1
        wanted = {task: own.weight for task, own in self.experiment.tasks.items()}
        factors = coefficients(wanted, numbers, terms)
        lengths = [int(length) for length in planned.lengths]
        world, limit = self.work.world, self.experiment.batch.micro_tokens
        cut = plan.split(lengths, world.ranks, limit)
        borrowed = lengths[0] * sum(not micro for own in cut for micro in own)
        batches = [self._collated([picked[i] for i in micro], picked) for micro in cut[world.rank]]
        return batches, GlobalPart(terms, factors, sum(lengths), borrowed)

    def _collated(self, own: Sequence[tuple[str, int]], every: Sequence[tuple[str, int]]) -> Batch:
        """Pack a micro-batch; one without rows borrows one at weight 0, to keep the ranks level."""
        rows: dict[str, list[Any]] = {}
        for task, index in own or every[:1]:
            rows.setdefault(task, []).append(self.train[task].example(index))
        summary = self.engine.model.encoder.summary
        batch = collate(rows, self.families, summary, 1.0 if own else 0.0)
        return batch.to(self.work.device)

    def evaluate(self) -> Evaluation:
        """Score the validation rows and bring best score and patience up to date."""
        rows = self.experiment.train.evaluate_rows
        found = evaluate(
            self.engine.model,
            self.validation,
            self.experiment.batch.micro_tokens,
            self.work.world,
            None if rows == "all" else rows,
            self.experiment.train.seed,
        )
        mains = {task: family.main for task, family in self.families.items()}
        score = main_score(found.scores, mains, self.experiment.score, self.experiment.target)
        step, old = self.progress.step, self.progress
        better = old.best_score is None or score > old.best_score
        self.progress = replace(
            old,
            score=score,
            scores=found.scores,
            best_step=step if better else old.best_step,
            best_score=score if better else old.best_score,
            waited=0 if better else old.waited + 1,
        )
        return found

    def save(self) -> Path:
        """Write a checkpoint and keep, beside it, only the best one."""
        progress, rank = self.progress, self.work.world.rank
        own, work = self.experiment.resolved(), self.work
        folder = checkpoint.save(work.run, self.engine, progress, work.fingerprint, rank, own)
        if rank == 0:
            checkpoint.prune(work.run, {progress.step, progress.best_step or progress.step})
        if self.work.world.ranks > 1:
            dist.barrier()
        return folder

    @property
    def done(self) -> bool:
        """Whether all steps are taken, or patience is at its end."""
        train = self.experiment.train
        impatient = train.patience is not None and self.progress.waited >= train.patience
        return self.progress.step >= train.steps or impatient


def train(work: Work) -> Iterator[News]:
    """Train a run to its end, or until someone asks to stop; goes on where it was left.

    Every rank yields alike: after each step, evaluation and checkpoint, and a last time with the
    event ``trained`` or ``stop``.
    """
    training = Training(work)
    start = training.progress.step
    yield News(start, events={"resume": {"from_step": start}} if start else {"start": {}})
    while not training.done:
        began = time.perf_counter()
        told, part = training.step()
        *sums, asked = told.tolist()
        took = time.perf_counter() - began
        progress = training.progress
        spent = progress.seconds + took
        training.progress = replace(progress, seconds=spent, score=None, scores={})
        values = _losses(training.tasks, sums, part.terms, progress.step)
        values["speed/tokens_per_second"] = part.tokens / took
        values["speed/seconds_per_step"] = took
        values["speed/useful_token_share"] = part.tokens / (part.tokens + part.borrowed)
        yield News(progress.step, values | _rates(training))
        last = progress.step >= work.experiment.train.steps
        if last or progress.step % work.experiment.train.evaluate_every == 0:
            yield from _look(training)
        elif asked:
            yield News(progress.step, settle=True)
            yield News(progress.step, checkpoint=training.save())
        if asked and not training.done:
            yield News(progress.step, events={"stop": {}})
            return
    yield News(training.progress.step, events={"trained": {"best": training.progress.best_step}})


def _look(training: Training) -> Iterator[News]:
    """Evaluate on validation, put that on record, then save, unless weights are beyond use."""
    found = training.evaluate()
    values = {
        f"{task}/validation/{metric}": value
        for task, scores in found.scores.items()
        for metric, value in scores.items()
    }
    _finite(values, training.progress.step)
    values["score"] = float(training.progress.score or 0.0)
    yield News(training.progress.step, values, settle=True)
    yield News(training.progress.step, checkpoint=training.save())


def _losses(
    tasks: Sequence[str], sums: Sequence[float], terms: Mapping[str, int], step: int
) -> dict[str, float]:
    """Give each present task's mean loss."""
    values = {
        f"{task}/train/loss": total / max(1, terms[task])
        for task, total in zip(tasks, sums, strict=True)
        if task in terms
    }
    _finite(values, step)
    return values


def _finite(values: Mapping[str, float], step: int) -> None:
    """Raise ``FloatingPointError`` if a loss is not a finite number; all ranks see the same."""
    found = {key: value for key, value in values.items() if not math.isfinite(value)}
    if found:
        raise FloatingPointError(
            f"step {step}: {', '.join(f'{key} is {value}' for key, value in found.items())}; "
            f"expected finite numbers. The last checkpoint is still good. "
            f"Lower optimizer.lr, or set train.precision=fp32."
        )


def _rates(training: Training) -> dict[str, float]:
    rates = training.engine.optimizer.rates()
    return {f"lr/{name}": rate for name, rate in rates.items() if not name.endswith(".no_decay")}


def test_scores(work: Work) -> Evaluation:
    """Score the best checkpoint on the test splits, once, by all ranks together."""
    families = {task: work.prepared.family(task) for task in work.experiment.tasks}
    model = weights.restored(work.experiment, families, checkpoint.best(work.run))
    model.to(work.device)
    present = {
        task: work.prepared.open(task, "test")
        for task in families
        if "test" in work.prepared.tasks[task].splits
    }
    return evaluate(model, present, work.experiment.batch.micro_tokens, work.world)
