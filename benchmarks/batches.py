"""The batches of a run's first steps as plain tensors on disk, for loops that know only those."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from orchestrator import plan, stages, weights
from orchestrator.batch import Batch, collate
from orchestrator.experiment import Experiment, load
from orchestrator.prepare import Prepared
from tasks.classify import Classify
from tasks.family import Family, Rows
from tasks.frames import layout
from tasks.roles import Roles
from tasks.tag import Tag

Labelled = tuple[Tensor, Tensor, int, bool]
"""Places in the packed tokens, their labels, the number of classes, whether a layer is hidden."""


@dataclass(frozen=True)
class Planned:
    """One step of one rank."""

    micros: list[Batch]
    factors: Mapping[str, float]
    """Of each present task's loss sum."""
    tokens: int
    """Real tokens of the global batch."""


class Source:
    """A run's plan and rows, read as its workers read them."""

    def __init__(self, run: Path, experiment: Experiment) -> None:
        self.experiment = experiment
        prepared = Prepared.read(run)
        self.families = {task: prepared.family(task) for task in sorted(experiment.tasks)}
        self.rows = {task: prepared.open(task, "train") for task in self.families}
        first = stages.of(experiment, prepared.layers)[0]
        self.plan = stages.planned(experiment, prepared.lengths(), first)
        self.encoder = weights.first(experiment, self.families, Path(prepared.reader)).encoder

    def step(self, step: int, rank: int, ranks: int) -> Planned:
        """Give one rank's part of a step."""
        planned, tasks = self.plan.step(step), self.plan.tasks
        picked = [(tasks[t], int(i)) for t, i in zip(planned.tasks, planned.examples, strict=True)]
        numbers = Counter(task for task, _ in picked)
        terms: Counter[str] = Counter()
        for task, index in picked:
            terms[task] += int(self.rows[task].terms[index])
        factors = {t: n / len(picked) / max(1, terms[t]) for t, n in numbers.items()}
        lengths = [int(length) for length in planned.lengths]
        cut = plan.split(lengths, ranks, self.experiment.batch.micro_tokens)[rank]
        micros = [self.batch([picked[i] for i in micro], picked[0]) for micro in cut]
        return Planned(micros, factors, sum(lengths))

    def batch(self, own: Sequence[tuple[str, int]], lent: tuple[str, int]) -> Batch:
        """Pack rows; without any, one that is lent, at weight 0, as the product does."""
        rows: dict[str, list[Any]] = {}
        for task, index in own or [lent]:
            rows.setdefault(task, []).append(self.rows[task].example(index))
        return collate(rows, self.families, self.encoder.summary, 1.0 if own else 0.0)

    def by_turns(self) -> Iterator[Planned]:
        """Give batches of one task each: the planned examples, dealt out when a task has enough.

        So tasks alternate in the shares of the mixture, and a batch has ``batch.tokens`` real
        tokens, or a few more.
        """
        waiting: dict[str, list[tuple[str, int]]] = {task: [] for task in self.rows}
        step = 0
        while True:
            planned = self.plan.step(step)
            step += 1
            for number, index in zip(planned.tasks, planned.examples, strict=True):
                task = self.plan.tasks[number]
                waiting[task].append((task, int(index)))
                indices = [i for _, i in waiting[task]]
                tokens = int(self.rows[task].lengths[indices].sum())
                if tokens >= self.experiment.batch.tokens:
                    terms = max(1, int(self.rows[task].terms[indices].sum()))
                    batch = self.batch(waiting[task], waiting[task][0])
                    waiting[task] = []
                    yield Planned([batch], {task: 1 / terms}, tokens)


def write(run: Path, folder: Path, steps: int) -> None:
    """Write the encoder, ``meta.json`` and the batches of ``steps`` steps of a run.

    ``packed-R-r.safetensors`` are those of rank r of R, ``padded.safetensors`` those of tasks by
    turns. Raises ``ValueError`` for a family whose labels are not those of a linear layer.
    """
    experiment = load(run / "experiment.yaml")
    source = Source(run, experiment)
    source.encoder.save(folder / "encoder")
    task = next(iter(source.families))
    meta: dict[str, Any] = {
        "heads": {},
        "micros": {},
        "tokens": {},
        "lr": experiment.optimizer.lr,
        "head_lr": experiment.task_optimizer(task).lr,
        "weight_decay": experiment.optimizer.weight_decay,
        "head_dropout": experiment.regularization.head_dropout,
        "clip": experiment.regularization.clip,
    }
    for ranks in (1, 2):
        for rank in range(ranks):
            own = [source.step(step, rank, ranks) for step in range(steps)]
            _save(folder, f"packed-{ranks}-{rank}", own, source, meta)
    _save(folder, "padded", list(islice(source.by_turns(), steps)), source, meta)
    (folder / "meta.json").write_text(json.dumps(meta))


def _save(
    folder: Path, name: str, steps: list[Planned], source: Source, meta: dict[str, Any]
) -> None:
    tensors: dict[str, Tensor] = {}
    for number, step in enumerate(steps):
        for place, batch in enumerate(step.micros):
            own = {"ids": batch.input_ids, "types": batch.type_ids, "lengths": batch.offsets.diff()}
            marks = [torch.empty(0, dtype=torch.int64)]
            for task, rows in batch.rows.items():
                family = source.families[task]
                factor = step.factors.get(task, 0.0) * batch.weight
                for head, (places, labels, classes, deep) in _labelled(task, family, rows).items():
                    meta["heads"][head] = classes, deep
                    own |= {f"{head}.places": places, f"{head}.labels": labels}
                    own[f"{head}.scale"] = torch.tensor(factor / math.log(classes))
                if isinstance(family, Roles):
                    marks.append(_marks(family, rows))
            own["marks"] = torch.cat(marks)
            tensors |= {f"{number}.{place}.{k}": v.contiguous().clone() for k, v in own.items()}
    save_file(tensors, folder / f"{name}.safetensors")
    meta["micros"][name] = [len(step.micros) for step in steps]
    meta["tokens"][name] = [step.tokens for step in steps]


def _labelled(task: str, family: Family[Any], rows: Rows) -> dict[str, Labelled]:
    """Say which tokens carry which labels: one entry for each kind of label of a task."""
    if isinstance(family, Classify):
        return {task: (rows.summary, rows.columns["label"], len(family.labels), True)}
    if isinstance(family, Tag):
        return {task: (rows.words, rows.columns["tags"], len(family.labels), False)}
    if isinstance(family, Roles):
        plan, own = layout(rows, family.marked), rows.columns
        return {
            task: (rows.words[plan.roles], own["roles"][plan.roles], len(family.labels), True),
            f"{task}-find": (rows.words[plan.finding], own["predicates"][plan.finding], 2, False),
        }
    raise ValueError(
        f"task {task!r} is of the family {type(family).__name__}; the bare loops know classify, "
        "tag and roles. Choose another experiment."
    )


def _marks(family: Roles, rows: Rows) -> Tensor:
    """Give the first tokens of the predicates that are shown at the input."""
    if not family.marked:
        return torch.empty(0, dtype=torch.int64)
    at, first = rows.columns["predicate"], rows.word_counts.cumsum(0) - rows.word_counts
    return rows.words[(first + at)[at >= 0]]
