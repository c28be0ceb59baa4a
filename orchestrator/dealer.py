"""A step's examples: from the plan to one rank's micro-batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.batch import Batch, collate
from orchestrator.experiment import Experiment
from orchestrator.model import MultiTaskModel
from orchestrator.plan import Plan, split
from orchestrator.weighting import coefficients
from orchestrator.work import Work


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


@dataclass
class Dealer:
    """Cuts a rank's micro-batches out of the global batches of a stage."""

    work: Work
    plan: Plan
    rows: Mapping[str, Any]
    """Training rows by task."""
    twice: Mapping[str, float] = field(init=False)
    """Tasks whose rows are read twice, and the strength of R-Drop."""

    def __post_init__(self) -> None:
        own: Experiment = self.work.experiment
        strengths = {task: own.task_regularization(task).r_drop for task in own.tasks}
        self.twice = {task: strength for task, strength in strengths.items() if strength}

    def deal(self, step: int, model: MultiTaskModel) -> tuple[list[Batch], GlobalPart]:
        """Give this rank's micro-batches of a step of the stage, and what all ranks know of it."""
        planned, tasks = self.plan.step(step), self.plan.tasks
        picked = [(tasks[t], int(i)) for t, i in zip(planned.tasks, planned.examples, strict=True)]
        terms: dict[str, int] = {}
        numbers: dict[str, int] = {}
        for task, index in picked:
            terms[task] = terms.get(task, 0) + int(self.rows[task].terms[index])
            numbers[task] = numbers.get(task, 0) + 1
        own, world = self.work.experiment, self.work.world
        wanted = {task: settings.weight for task, settings in own.tasks.items()}
        factors = coefficients(own.weighting.name, wanted, numbers, terms)
        times = [1 + (task in self.twice) for task, _ in picked]
        lengths = [int(n) * m for n, m in zip(planned.lengths, times, strict=True)]
        cut = split(lengths, world.ranks, own.batch.micro_tokens)
        borrowed = lengths[0] * sum(not micro for one in cut for micro in one)
        batches = [
            self._collated([picked[i] for i in micro], picked, model) for micro in cut[world.rank]
        ]
        return batches, GlobalPart(terms, factors, int(planned.lengths.sum()), borrowed)

    def _collated(
        self,
        own: Sequence[tuple[str, int]],
        every: Sequence[tuple[str, int]],
        model: MultiTaskModel,
    ) -> Batch:
        """Pack a micro-batch; one without rows borrows one at weight 0, to keep the ranks level."""
        rows: dict[str, list[Any]] = {}
        for task, index in own or every[:1]:
            rows.setdefault(task, []).append(self.rows[task].example(index))
        encoder, weight = model.encoder, 1.0 if own else 0.0
        batch = collate(
            rows,
            model.families,
            encoder.summary,
            weight,
            model.sharing,
            self.twice,
            encoder.signals,
        )
        return batch.to(self.work.device)
