"""The state of one worker's training between steps: plan, model, engine, progress."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from encoders import mixout
from encoders.layers import depth
from orchestrator import checkpoint, keyed, plan, stages, weights
from orchestrator.aggregation import aggregated_step, combined
from orchestrator.batch import Batch, collate
from orchestrator.checkpoint import Progress
from orchestrator.engine import Engine
from orchestrator.evaluate import Evaluation, Examples, Ranks, evaluate, main_score
from orchestrator.experiment import Experiment
from orchestrator.famo import Famo, famo_step
from orchestrator.joint_step import joint_step
from orchestrator.model import MultiTaskModel
from orchestrator.optimizer import Layers, groups
from orchestrator.prepare import Prepared
from orchestrator.sections import AGGREGATED
from orchestrator.stages import Stretch, planned
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

    @cached_property
    def stages(self) -> list[Stretch]:
        """List the stages of the run, in order."""
        return stages.of(self.experiment, self.prepared.layers)


@dataclass(frozen=True)
class GlobalPart:
    """What all ranks know of a global batch."""

    terms: dict[str, int]
    """Terms of each present task's loss sum."""
    coefficients: dict[str, float]
    """See ``joint_step``."""
    tokens: int
    """Of its rows, each counted once, also where it is read twice."""
    borrowed: int
    """Tokens read once more, at weight 0, by ranks that would have had nothing to do."""


class Training:
    """The state of one worker between the steps of one stage."""

    def __init__(
        self, work: Work, stage: Stretch, progress: Progress, start: Path | None = None
    ) -> None:
        """Begin a stage, or go on with it: ``start`` is the checkpoint of this ``progress``.

        Without it the model has its first weights.
        """
        self.work, self.stage, self.progress = work, stage, progress
        self.experiment = work.experiment
        prepared = work.prepared
        self.tasks = sorted(work.experiment.tasks)
        self.families = {task: prepared.family(task) for task in self.tasks}
        self.train: dict[str, Examples] = {t: prepared.open(t, "train") for t in stage.tasks}
        self.validation = {task: prepared.open(task, "validation") for task in self.tasks}
        lengths = {task: rows.lengths for task, rows in self.train.items()}
        self.plan = planned(work.experiment, lengths, stage)
        strengths = {t: self.experiment.task_regularization(t).r_drop for t in self.tasks}
        self.twice = {task: strength for task, strength in strengths.items() if strength}
        if start is None:
            model = weights.first(work.experiment, self.families, Path(prepared.reader))
        else:
            model = weights.restored(work.experiment, self.families, start)
        self.depths = stage.depths(model.encoder.layers)
        model.train().to(work.device)
        model.learn(self.depths, stage.heads(self.tasks, self.experiment.target))
        self._engage(model, start)

    def _engage(self, model: MultiTaskModel, start: Path | None) -> None:
        """Give the model its engine, with the optimizer's state if the stage was begun before."""
        own, inside = self.experiment.regularization, start is not None and self.progress.taken > 0
        stored = checkpoint.load_state(start) if inside and start is not None else {}
        state, raw = checkpoint.split_state(stored)
        first = self._first_weights(model, start)
        self.shadow = copy.deepcopy(model) if own.ema else None
        """Reads with the averages in place of the weights."""
        average = {n: p.detach().clone() for n, _, p in model.named()} if self.shadow else {}
        with torch.no_grad():
            for name, _, parameter in model.named() if raw else ():
                parameter.copy_(raw[name])
        if own.mixout and self.depths:
            prefix = "encoder.network."
            whole = {n.removeprefix(prefix): w for n, w in first.items() if n.startswith(prefix)}
            mixout.apply(model.encoder.network, own.mixout, whole)
        self.engine = self.work.make_engine(model, self._groups(model))
        if own.l2_sp:
            self.engine.anchor(first)
        if self.shadow is not None:
            self.engine.average(average, own.ema)
        self.engine.restore(state)
        self.famo: Famo | None = None
        weighting = self.experiment.weighting
        if weighting.name == "famo":
            self.famo = Famo(self.tasks, weighting.lr, weighting.decay, self.work.device)
            self.famo.restore(state)

    def _first_weights(self, model: MultiTaskModel, start: Path | None) -> dict[str, Tensor]:
        """Give the encoder's weights before the first step, where L2-SP or mixout asks for them."""
        own = self.experiment.regularization
        if not own.l2_sp and not own.mixout:
            return {}
        if start is not None:
            reader = Path(self.work.prepared.reader)
            model = weights.first(self.experiment, self.families, reader)
        return {n: p.detach().clone() for n, task, p in model.named() if task is None}

    def _groups(self, model: MultiTaskModel) -> list[dict[str, Any]]:
        settings: dict[str | None, Any] = {None: self.experiment.optimizer}
        settings |= {task: self.experiment.task_optimizer(task) for task in self.tasks}
        for place, wanted in settings.items() if self.stage.optimizer else ():
            changed = wanted.model_dump() | self.stage.optimizer
            settings[place] = type(wanted).model_validate(changed)
        own, count = self.experiment.regularization, model.encoder.layers
        layers = Layers(
            lambda name: depth(name, count), count, own.layer_decay, own.reinit_layers, own.l2_sp
        )
        return groups(model.named(), settings, layers)

    def step(self) -> tuple[Tensor, GlobalPart]:
        """Take the next step; give the global sums with the stop flag last, and what it read."""
        step, world = self.progress.step, self.work.world
        self.engine.optimizer.set_rates(self.progress.taken, self.stage.steps)
        batches, part = self._batches(self.progress.taken)
        seed = self.experiment.train.seed
        seeds = [
            keyed.torch_seed(seed, "step", step, world.rank, place) for place in range(len(batches))
        ]
        arguments = (self.engine, batches, part.coefficients, world.ranks, seeds)
        weighting = self.experiment.weighting
        if self.famo is not None:
            sums = famo_step(*arguments, self.famo)
        elif weighting.name in AGGREGATED:
            sums = aggregated_step(*arguments, lambda each: combined(each, weighting, seed, step))
        else:
            sums = joint_step(*arguments)
        told = torch.cat([sums, sums.new_tensor([float(self.work.stop())])])
        if world.ranks > 1:
            dist.all_reduce(told)
        self.progress = replace(self.progress, step=step + 1)
        return told, part

    def _batches(self, step: int) -> tuple[list[Batch], GlobalPart]:
        """Cut this rank's micro-batches out of the global batch of a step of this stage."""
        planned, tasks = self.plan.step(step), self.plan.tasks
        picked = [(tasks[t], int(i)) for t, i in zip(planned.tasks, planned.examples, strict=True)]
        terms: dict[str, int] = {}
        numbers: dict[str, int] = {}
        for task, index in picked:
            terms[task] = terms.get(task, 0) + int(self.train[task].terms[index])
            numbers[task] = numbers.get(task, 0) + 1
        wanted = {task: own.weight for task, own in self.experiment.tasks.items()}
        factors = coefficients(self.experiment.weighting.name, wanted, numbers, terms)
        times = [1 + (task in self.twice) for task, _ in picked]
        lengths = [int(n) * m for n, m in zip(planned.lengths, times, strict=True)]
        world, limit = self.work.world, self.experiment.batch.micro_tokens
        cut = plan.split(lengths, world.ranks, limit)
        borrowed = lengths[0] * sum(not micro for own in cut for micro in own)
        batches = [self._collated([picked[i] for i in micro], picked) for micro in cut[world.rank]]
        return batches, GlobalPart(terms, factors, int(planned.lengths.sum()), borrowed)

    def _collated(self, own: Sequence[tuple[str, int]], every: Sequence[tuple[str, int]]) -> Batch:
        """Pack a micro-batch; one without rows borrows one at weight 0, to keep the ranks level."""
        rows: dict[str, list[Any]] = {}
        for task, index in own or every[:1]:
            rows.setdefault(task, []).append(self.train[task].example(index))
        model, weight = self.engine.model, 1.0 if own else 0.0
        summary = model.encoder.summary
        batch = collate(rows, self.families, summary, weight, model.sharing, self.twice)
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
        score = self._score(found.scores, mains)
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

    def _score(self, scores: Mapping[str, Mapping[str, float]], mains: Mapping[str, str]) -> float:
        """Give the experiment's score, or, where its task has no part in the stage, the mean."""
        own, target = self.experiment.score, self.experiment.target
        asked = own.rpartition("/")[0] if own else target
        if asked is None or asked in self.stage.tasks:
            return main_score(scores, mains, own, target)
        return main_score(scores, {task: mains[task] for task in self.stage.tasks}, None, None)

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
        beside = self.famo.state() if self.famo else {}
        folder = checkpoint.save(
            work.run, self.engine, progress, work.fingerprint, rank, own, beside
        )
        if rank == 0:
            checkpoint.prune(work.run, {progress.step, progress.best_step or progress.step})
        if self.work.world.ranks > 1:
            dist.barrier()
        return folder

    @property
    def done(self) -> bool:
        """Whether the stage is at its end."""
        return ended(self.stage, self.progress)

    def close(self) -> None:
        """Let go of the model."""
        self.engine.close()


def ended(stage: Stretch, progress: Progress) -> bool:
    """Say whether all steps of a stage are taken, or patience is at its end."""
    impatient = stage.patience is not None and progress.waited >= stage.patience
    return progress.taken >= stage.steps or impatient
