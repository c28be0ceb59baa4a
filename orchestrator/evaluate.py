"""Scores of every task on a split, computed by all ranks together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist

from orchestrator import keyed
from orchestrator.batch import Batch, collate
from orchestrator.model import MultiTaskModel


class Examples(Protocol):
    """One tokenised split of one task (see ``tokens.Split``)."""

    @property
    def lengths(self) -> Any: ...
    @property
    def terms(self) -> Any: ...
    @property
    def contents(self) -> Any: ...
    def __len__(self) -> int: ...
    def example(self, index: int) -> Mapping[str, Any]: ...
    def gold(self, index: int) -> Any: ...


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is."""

    rank: int = 0
    ranks: int = 1


@dataclass
class Evaluation:
    """What came out: scores are the same on every rank, rank 0 alone has the rest."""

    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    """Task to metric to value; ``loss`` among them, in units."""
    confusions: dict[str, Any] = field(default_factory=dict)
    """Task to labels and counts, where the family has them."""
    parts: dict[str, Any] = field(default_factory=dict)
    """Task to what each row adds to its main score, ``[rows, n]``, by rising row; if asked for."""


def evaluate(
    model: MultiTaskModel,
    data: Mapping[str, Examples],
    micro_tokens: int,
    world: Ranks,
    rows: int | None = None,
    seed: int = 0,
    parts: bool = False,
) -> Evaluation:
    """Score ``data`` (task to examples), or the first ``rows`` of each in a seeded order.

    Draws no random numbers and leaves the model in the mode it was in. All ranks must call.
    """
    chosen = chosen_rows(data, rows, seed)
    if not chosen:
        return Evaluation()
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    tasks = sorted(model.families)
    sums = torch.zeros(2, len(tasks), dtype=torch.float64)
    found: list[tuple[str, int, Any]] = []
    with torch.no_grad():
        for picked, batch in _batches(model, data, chosen, micro_tokens, world):
            batch = batch.to(device)
            outputs = model(batch)
            if not batch.weight:
                continue
            losses = model.loss_sums(outputs, batch)
            sums[0] += torch.tensor([float(losses[task]) for task in tasks], dtype=torch.float64)
            for place, task in enumerate(tasks):
                own = [index for name, index in picked if name == task]
                sums[1, place] += sum(int(data[task].terms[index]) for index in own)
                if own:
                    predictions = model.families[task].decode(outputs[task], batch.rows[task])
                    found += [(task, i, p) for i, p in zip(own, predictions, strict=True)]
    model.train(was_training)
    return _together(model, data, found, sums, tasks, world, parts)


def flat(scores: Mapping[str, Mapping[str, float]], split: str) -> dict[str, float]:
    """Name each score ``task/split/metric``."""
    return {
        f"{task}/{split}/{metric}": value
        for task, own in scores.items()
        for metric, value in own.items()
    }


def finite(values: Mapping[str, float], where: str) -> None:
    """Raise ``FloatingPointError`` if a number is not finite; all ranks see the same."""
    found = {key: value for key, value in values.items() if not math.isfinite(value)}
    if found:
        raise FloatingPointError(
            f"{where}: {', '.join(f'{key} is {value}' for key, value in found.items())}; "
            f"expected finite numbers. The last checkpoint is still good. "
            f"Lower optimizer.lr, or set train.precision=fp32."
        )


def main_score(
    scores: Mapping[str, Mapping[str, float]],
    mains: Mapping[str, str],
    score: str | None,
    target: str | None,
) -> float:
    """Give the number that ranks checkpoints: ``score``, the target's main one, or the mean."""
    if score is not None:
        task, _, metric = score.rpartition("/")
        return scores[task][metric]
    if target is not None:
        return scores[target][mains[target]]
    return float(np.mean([scores[task][main] for task, main in sorted(mains.items())]))


def chosen_rows(data: Mapping[str, Examples], rows: int | None, seed: int) -> list[tuple[str, int]]:
    """List task and index of what ``evaluate`` looks at."""
    chosen = []
    for task in sorted(data):
        size = len(data[task])
        count = size if rows is None else min(rows, size)
        # Not keyed by the task: those with the same rows look at the same ones, and share them.
        order = keyed.permuted(np.arange(count), size, seed, "evaluate")
        chosen += [(task, int(i)) for i in (order if count < size else range(size))]
    return chosen


def _batches(
    model: MultiTaskModel,
    data: Mapping[str, Examples],
    chosen: Sequence[tuple[str, int]],
    micro_tokens: int,
    world: Ranks,
) -> Iterator[tuple[list[tuple[str, int]], Batch]]:
    """Pack rows of all tasks, longest first; every rank gets equally many batches."""
    packs = _packs(model.sharing, data, chosen, micro_tokens)
    while len(packs) % world.ranks:
        packs.append([])
    for pack in packs[world.rank :: world.ranks]:
        rows: dict[str, list[Any]] = {}
        for task, index in sorted(pack or packs[0][:1]):
            rows.setdefault(task, []).append(data[task].example(index))
        encoder, weight = model.encoder, 1.0 if pack else 0.0
        families, signals = model.families, encoder.signals
        yield (
            sorted(pack),
            collate(rows, families, encoder.summary, weight, model.sharing, signals=signals),
        )


def _packs(
    sharing: Collection[str],
    data: Mapping[str, Examples],
    chosen: Sequence[tuple[str, int]],
    micro_tokens: int,
) -> list[list[tuple[str, int]]]:
    """Bring equal texts of several tasks together: one that is read already costs no tokens."""
    ordered = []
    for task, index in chosen:
        content = int(data[task].contents[index]) if task in sharing else -1
        ordered.append((-int(data[task].lengths[index]), content, task, index))
    packs: list[list[tuple[str, int]]] = [[]]
    filled, read, before = 0, 0, None
    met: Counter[str] = Counter()
    for length, content, task, index in sorted(ordered):
        if (length, content) != before:
            before, read = (length, content), 0
            met.clear()
        if content < 0 or met[task] == read:  # it shares nothing that is in this pack
            if packs[-1] and filled - length > micro_tokens:
                packs.append([])
                filled, read = 0, 0
                met.clear()
            filled -= length
            read += 1
        met[task] += 1
        packs[-1].append((task, index))
    return packs


def _together(
    model: MultiTaskModel,
    data: Mapping[str, Examples],
    found: list[tuple[str, int, Any]],
    sums: torch.Tensor,
    tasks: Sequence[str],
    world: Ranks,
    parts: bool,
) -> Evaluation:
    """Bring predictions to rank 0, score them there, and tell every rank.

    Where a loss is not finite it is all that is told: such answers cannot be scored.
    """
    gathered: list[Any] = [found]
    if world.ranks > 1:
        device = next(model.parameters()).device
        summed = sums.to(device)
        dist.all_reduce(summed)
        sums = summed.cpu()
    losses = dict(zip(tasks, (sums[0] / sums[1].clamp(min=1)).tolist(), strict=True))
    if world.ranks > 1:
        gathered = [None] * world.ranks
        dist.gather_object(found, gathered if world.rank == 0 else None)
    evaluation = Evaluation()
    if world.rank == 0:
        every = sorted((item for part in gathered for item in part), key=lambda item: item[:2])
        for task in tasks:
            own = [(index, prediction) for name, index, prediction in every if name == task]
            if not own:
                continue
            predictions = [prediction for _, prediction in own]
            golds = [data[task].gold(index) for index, _ in own]
            if not math.isfinite(losses[task]):
                evaluation.scores[task] = {"loss": losses[task]}
                continue
            scores = model.families[task].score(predictions, golds)
            evaluation.scores[task] = {**scores, "loss": losses[task]}
            confusion = model.families[task].confusion(predictions, golds)
            if confusion is not None:
                evaluation.confusions[task] = confusion
            if parts:
                evaluation.parts[task] = model.families[task].parts(predictions, golds)
    if world.ranks > 1:
        told: list[Any] = [evaluation.scores]
        dist.broadcast_object_list(told, src=0)
        evaluation.scores = told[0]
    return evaluation
