"""The state of one worker's training between steps: plan, model, engine, progress."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from encoders import mixout
from encoders.layers import depth
from orchestrator import checkpoint, keyed, plan, weights
from orchestrator.batch import Batch, collate
from orchestrator.checkpoint import Progress
from orchestrator.engine import Engine
from orchestrator.evaluate import Evaluation, Examples, Ranks, evaluate, main_score
from orchestrator.experiment import Experiment
from orchestrator.joint_step import joint_step
from orchestrator.model import MultiTaskModel
from orchestrator.optimizer import Layers, groups
from orchestrator.prepare import Prepared
from orchestrator.weighting import coefficients


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
        first = self._first_weights(model, resumed)
        state, raw = checkpoint.split_state(checkpoint.load_state(resumed) if resumed else {})
        self.shadow = copy.deepcopy(model) if self.experiment.regularization.ema else None
        """Reads with the averages in place of the weights."""
        average = {n: p.detach().clone() for n, _, p in model.named()} if self.shadow else {}
        with torch.no_grad():
            for name, _, parameter in model.named() if raw else ():
                parameter.copy_(raw[name])
        if rate := self.experiment.regularization.mixout:
            start = "encoder.network."
            own = {n.removeprefix(start): w for n, w in first.items() if n.startswith(start)}
            mixout.apply(model.encoder.network, rate, own)
        self.engine = work.make_engine(model, self._groups(model))
        if self.experiment.regularization.l2_sp:
            self.engine.anchor(first)
        if self.shadow is not None:
            self.engine.average(average, self.experiment.regularization.ema)
        self.engine.restore(state)

    def _first_weights(self, model: MultiTaskModel, resumed: Path | None) -> dict[str, Tensor]:
        """Give the encoder's weights before the first step, where L2-SP or mixout asks for them."""
        own = self.experiment.regularization
        if not own.l2_sp and not own.mixout:
            return {}
        if resumed is not None:
            reader = Path(self.work.prepared.reader)
            model = weights.first(self.experiment, self.families, reader)
        return {n: p.detach().clone() for n, task, p in model.named() if task is None}

    def _groups(self, model: MultiTaskModel) -> list[dict[str, Any]]:
        settings: dict[str | None, Any] = {None: self.experiment.optimizer}
        settings |= {task: self.experiment.task_optimizer(task) for task in self.tasks}
        own, count = self.experiment.regularization, model.encoder.layers
        layers = Layers(
            lambda name: depth(name, count), count, own.layer_decay, own.reinit_layers, own.l2_sp
        )
        return groups(model.named(), settings, layers)

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
        wanted = None
        if self.experiment.weighting == "fixed":
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
        model, weight = self.engine.model, 1.0 if own else 0.0
        batch = collate(rows, self.families, model.encoder.summary, weight, model.sharing)
        return batch.to(self.work.device)

    def evaluate(self) -> Evaluation:
        """Score the validation rows and bring best score and patience up to date."""
        rows = self.experiment.train.evaluate_rows
        found = evaluate(
            self._evaluated(),
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

    def _evaluated(self) -> MultiTaskModel:
        """Give the model whose scores count: with averages, where they follow the weights."""
        if self.shadow is None:
            return self.engine.model
        with torch.no_grad():
            for (_, value), (_, _, mine) in zip(
                self.engine.averaged(), self.shadow.named(), strict=True
            ):
                mine.copy_(value)
        return self.shadow

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
