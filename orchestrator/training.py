"""The state of one worker's training between steps: plan, model, engine, progress."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from encoders import mixout
from encoders.layers import depth
from orchestrator import checkpoint, folds, keyed, weights
from orchestrator.balance import Balance
from orchestrator.checkpoint import Progress
from orchestrator.dealer import Dealer, GlobalPart
from orchestrator.evaluate import Evaluation, chosen_rows, evaluate, finite, flat, main_score
from orchestrator.model import MultiTaskModel
from orchestrator.optimizer import Layers, groups
from orchestrator.readings import Reader
from orchestrator.sections import drawn
from orchestrator.stages import Stretch, planned
from orchestrator.starts import Start
from orchestrator.work import Work


class Training:
    """The state of one worker between the steps of one stage."""

    def __init__(
        self,
        work: Work,
        stage: Stretch,
        progress: Progress,
        start: Start | None = None,
        keep: bool = True,
    ) -> None:
        """Begin a stage, or go on with it: ``start`` has the weights of this ``progress``.

        Without it the model has its first weights. With ``keep`` an encoder that rests reads each
        text once, now.
        """
        self.work, self.stage, self.progress = work, stage, progress
        self.found = Evaluation()
        """Of the last evaluation."""
        self.experiment = work.experiment
        prepared = work.prepared
        self.tasks = sorted(work.experiment.tasks)
        self.families = {task: prepared.family(task) for task in self.tasks}
        self.train: dict[str, Any] = folds.training_rows(work.experiment, prepared, stage)
        self.validation: dict[str, Any] = {t: prepared.open(t, "validation") for t in self.tasks}
        lengths = {task: rows.lengths for task, rows in self.train.items()}
        self.plan = planned(work.experiment, lengths, stage)
        if start is None:
            model = self._first()
        else:
            model = start.model(work.experiment, self.families, stage.stacks)
        self.depths = stage.depths(model.encoder.layers)
        model.train().to(work.device)
        model.learn(self.depths, stage.heads(self.tasks, self.experiment.target))
        self._answered(model)
        if keep and not self.depths:
            model.kept = self._keep(model)
        self.dealer = Dealer(work, self.plan, self.train)
        self._engage(model, start)

    def _answered(self, model: MultiTaskModel) -> None:
        """Let the target's training rows bring what was answered out of fold."""
        if model.stack is None or all(stage.fold is None for stage in self.work.stages):
            return
        stacked, own = model.stack.stacked, self.work
        if stacked.target in self.train:
            self.train[stacked.target] = folds.read(
                own.run, own.experiment, own.prepared, stacked, model.stack.size
            )

    def _keep(self, model: MultiTaskModel) -> frozenset[str]:
        """Read each text once, since the encoder rests; give the tasks whose states are kept."""
        own, rows = self.experiment.train, self.experiment.train.evaluate_rows
        asked: dict[str, list[int]] = {task: [] for task in self.tasks}
        for task, index in chosen_rows(self.validation, None if rows == "all" else rows, own.seed):
            asked[task].append(index)
        reader = Reader(model, self._kept_folder, self.experiment.batch.micro_tokens, self.work)
        for split, data, wanted in (
            ("train", self.train, self.plan.read(self.stage.steps)),
            ("validation", self.validation, asked),
        ):
            for task in data:
                data[task] = reader.kept(task, split, data[task], wanted[task])
        return reader.tasks

    @property
    def _kept_folder(self) -> Path:
        return self.work.run / "features" / self.stage.name

    def _engage(self, model: MultiTaskModel, start: Start | None) -> None:
        """Give the model its engine, with the optimizer's state if the stage was begun before."""
        own, inside = self.experiment.regularization, start is not None and self.progress.taken > 0
        stored = start.state() if inside and start is not None else {}
        state, raw = checkpoint.split_state(stored)
        first = self._first_weights(model, start)
        self.shadow = copy.deepcopy(model) if own.ema else None
        """Reads with the averages in place of the weights."""
        average = {n: p.detach().clone() for n, _, p in model.named()} if self.shadow else {}
        with torch.no_grad():
            for name, _, parameter in model.named() if raw else ():
                parameter.copy_(raw[name])
        if own.mixout and self.depths:
            prefix, layers = "encoder.network.", model.encoder.layers
            top = layers - own.reinit_layers  # above it there is nothing to go back to
            whole = {
                name.removeprefix(prefix): weight
                for name, weight in first.items()
                if name.startswith(prefix) and depth(name, layers) <= top
            }
            mixout.apply(model.encoder.network, own.mixout, whole)
        self.engine = self.work.make_engine(model, self._groups(model))
        if drawn(own):
            self.engine.anchor(first)
        if self.shadow is not None:
            self.engine.average(average, own.ema)
        self.engine.restore(state)
        way, seed = self.experiment.weighting, self.experiment.train.seed
        self.balance = Balance(way, self.tasks, seed, self.work.device)
        self.balance.restore(state)

    def _first(self) -> MultiTaskModel:
        reader = Path(self.work.prepared.reader)
        return weights.first(self.experiment, self.families, reader, load=self.work.load)

    def _first_weights(self, model: MultiTaskModel, start: Start | None) -> dict[str, Tensor]:
        """Give the encoder's weights before the first step, where something asks for them."""
        own = self.experiment.regularization
        if not drawn(own) and not own.mixout:
            return {}
        if start is not None:
            model = self._first()
        return {n: p.detach().clone() for n, task, p in model.named() if task is None}

    def _groups(self, model: MultiTaskModel) -> list[dict[str, Any]]:
        settings: dict[str | None, Any] = {None: self.experiment.optimizer}
        settings |= {task: self.experiment.task_optimizer(task) for task in self.tasks}
        for place, wanted in settings.items() if self.stage.optimizer else ():
            changed = wanted.model_dump() | self.stage.optimizer
            settings[place] = type(wanted).model_validate(changed)
        own, count = self.experiment.regularization, model.encoder.layers
        layers = Layers(
            lambda name: depth(name, count), count, own.layer_decay, own.reinit_layers, drawn(own)
        )
        return groups(model.named(), settings, layers)

    def step(self) -> tuple[Tensor, GlobalPart]:
        """Take the next step; give the global sums with the stop flag last, and what it read."""
        step, world = self.progress.step, self.work.world
        self.engine.optimizer.set_rates(self.progress.taken, self.stage.steps)
        batches, part = self.dealer.deal(self.progress.taken, self.engine.model)
        seed = self.experiment.train.seed
        seeds = [
            keyed.torch_seed(seed, "step", step, world.rank, place) for place in range(len(batches))
        ]
        given = (self.engine, batches, part.coefficients, world.ranks, seeds)
        sums = self.balance.step(step, *given)
        told = torch.cat([sums, sums.new_tensor([float(self.work.stop())])])
        if world.ranks > 1:
            dist.all_reduce(told)
        self.progress = replace(self.progress, step=step + 1)
        return told, part

    def evaluate(self) -> Evaluation:
        """Score the validation rows and bring best score and patience up to date.

        Raises ``FloatingPointError`` if weights are beyond use.
        """
        rows = self.experiment.train.evaluate_rows
        found = evaluate(
            self._evaluated(),
            self.validation,
            self.experiment.batch.micro_tokens,
            self.work.world,
            None if rows == "all" else rows,
            self.experiment.train.seed,
            self.work.parts,
        )
        self.found = found
        finite(flat(found.scores, "validation"), f"step {self.progress.step}")
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
        folder = checkpoint.save(
            work.run, self.engine, progress, work.fingerprint, rank, own, self.balance.state()
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

    def answer(self) -> None:
        """Let the model of a fold answer the target's training texts of this fold.

        A model of its own does, whole on each rank, whatever the engine has made of this one.
        """
        own, fold = self.work, self.stage.fold
        assert fold is not None, f"stage {self.stage.name} leaves no fold out"
        model = self._first()
        with torch.no_grad():
            for (_, value), (_, _, mine) in zip(self.engine.averaged(), model.named(), strict=True):
                mine.copy_(value)
        file = folds.answers(own.run, fold)
        limit = self.experiment.batch.micro_tokens
        reader = Reader(model.to(own.device), file.parent, limit, own)
        stacked = folds.of(own.experiment, own.prepared)
        assert stacked is not None, "there are folds, so there is a target"
        asked = folds.asked(own.experiment, own.prepared, stacked, fold)
        reader.answer(stacked, own.prepared.open(stacked.target, "train"), asked, file)

    def close(self) -> None:
        """Let go of the model, and of what was kept for it."""
        self.engine.close()
        if self.work.world.ranks > 1:
            dist.barrier()
        if self.work.world.rank == 0:
            shutil.rmtree(self._kept_folder.parent, ignore_errors=True)


def ended(stage: Stretch, progress: Progress) -> bool:
    """Say whether all steps of a stage are taken, or patience is at its end."""
    impatient = stage.patience is not None and progress.waited >= stage.patience
    return progress.taken >= stage.steps or impatient
