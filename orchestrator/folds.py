"""Answers out of fold: what a helper says of texts it was trained on, said by a model that was not.

Cross-fitting as in stacking (Wolpert 1992; Breiman 1996). A fold is a set of *texts*, the same for
all tasks, so that no row of any task tells a fold's model about the texts that it answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from orchestrator import stages
from orchestrator.batch import GIVEN, Example
from orchestrator.experiment import Experiment
from orchestrator.prepare import Prepared
from orchestrator.problems import Problem
from orchestrator.stacking import Stacked
from orchestrator.stages import Stretch
from orchestrator.tokens import Split

FOLDER = "folds"
"""Where a run keeps what its folds' models answered."""


def stretches(experiment: Experiment, prepared: Prepared) -> list[Stretch]:
    """List the stages of a run, with those of its folds' models where there must be some."""
    own = stages.of(experiment, prepared.layers)
    stacked = of(experiment, prepared)
    if stacked is None or not experiment.stacking.folds or not any(s.stacks for s in own):
        return own
    if not overlapping(prepared, stacked.target, stacked.features).any():
        return own
    return stages.of(experiment, prepared.layers, experiment.stacking.folds)


def of(experiment: Experiment, prepared: Prepared) -> Stacked | None:
    """Say what the target of an experiment reads of its helpers; None without target."""
    families = {task: prepared.family(task) for task in experiment.tasks}
    return Stacked.of(experiment.stacking, experiment.target, families)


def overlapping(
    prepared: Prepared, target: str, helpers: Iterable[str], split: str = "train"
) -> NDArray[np.bool_]:
    """Mark the target's rows with a text that some helper is trained on, ``[rows]``."""
    seen = [prepared.open(task, "train").texts[0] for task in helpers]
    rows = prepared.open(target, split)
    texts, row = rows.texts
    known = np.isin(texts, np.concatenate([np.empty(0, np.uint64), *seen]))
    found = np.zeros(len(rows), bool)
    found[row[known]] = True
    return found


def assigned(prepared: Prepared, folds: int) -> dict[str, NDArray[np.int64]]:
    """Give the fold of each training row of each task: the hash of its text, mod ``folds``.

    Texts that stand together in a row (pairs) are in one fold, with all that stands with them.
    """
    rows = {task: prepared.open(task, "train") for task in sorted(prepared.tasks)}
    texts = np.concatenate([own.texts[0] for own in rows.values()])
    sizes = np.cumsum([0, *(len(own) for own in rows.values())])
    row = np.concatenate(
        [own.texts[1] + first for own, first in zip(rows.values(), sizes, strict=False)]
    )
    names, text = np.unique(texts, return_inverse=True)
    count = int(sizes[-1])
    edges = sparse.coo_array(
        (np.ones(len(row), bool), (row, count + text)), shape=(count + len(names),) * 2
    )
    _, group = sparse.csgraph.connected_components(edges, directed=False)
    least = np.full(int(group.max(initial=0)) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, group[count:], names)
    fold = (least[group[:count]] % np.uint64(max(1, folds))).astype(np.int64)
    return {
        task: fold[first : first + len(own)]
        for (task, own), first in zip(rows.items(), sizes, strict=False)
    }


class Part:
    """Some rows of a split, numbered anew."""

    def __init__(self, rows: Split, indices: NDArray[np.int64]) -> None:
        self._rows, self._indices = rows, indices
        self.lengths, self.terms = rows.lengths[indices], rows.terms[indices]

    def __len__(self) -> int:
        return len(self._indices)

    def example(self, index: int) -> Example:
        """Give one example."""
        return self._rows.example(int(self._indices[index]))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a part of a split has no {name}")


def training_rows(
    experiment: Experiment, prepared: Prepared, stage: Stretch
) -> dict[str, Split | Part]:
    """Open what a stage is trained on, without the rows of the fold that it leaves out.

    Raises ``ValueError`` where nothing is left of a task.
    """
    every = {task: prepared.open(task, "train") for task in stage.tasks}
    if stage.fold is None:
        return dict(every)
    folds = experiment.stacking.folds
    left = assigned(prepared, folds)
    found = {
        task: Part(own, np.flatnonzero(left[task] != stage.fold)) for task, own in every.items()
    }
    if empty := [task for task, own in found.items() if not len(own)]:
        raise ValueError(
            f"stacking.folds is {folds}; all training texts of {', '.join(empty)} are in one fold, "
            "so its model would learn nothing of it. Give more texts, or set stacking.folds=0."
        )
    return dict(found)


def asked(experiment: Experiment, prepared: Prepared, stacked: Stacked, fold: int) -> list[int]:
    """List the target's training rows that a fold's model answers."""
    own = assigned(prepared, experiment.stacking.folds)[stacked.target]
    found: list[int] = np.flatnonzero(
        (own == fold) & overlapping(prepared, stacked.target, stacked.features)
    ).tolist()
    return found


def answers(run: Path, fold: int) -> Path:
    """Name the file of a fold's answers, ``[tokens, n]``, rows in ascending order."""
    return run / FOLDER / f"fold-{fold + 1}.npy"


class Answered:
    """The target's training rows, with what was answered out of fold; NaN where nothing was."""

    def __init__(self, rows: Split, found: Mapping[int, NDArray[np.float32]], size: int) -> None:
        """``found`` holds ``[tokens, size]`` by row."""
        self._rows, self._found, self._size = rows, found, size

    def __getattr__(self, name: str) -> Any:
        """Be the split in all else."""
        return getattr(self._rows, name)

    def __len__(self) -> int:
        return len(self._rows)

    def example(self, index: int) -> Example:
        """Give one example."""
        own = self._rows.example(index)
        said = self._found.get(index)
        if said is None:
            said = np.full((len(own["input_ids"]), self._size), np.nan, np.float32)
        return {**own, GIVEN: said.reshape(-1)}


def read(
    run: Path, experiment: Experiment, prepared: Prepared, stacked: Stacked, size: int
) -> Answered:
    """Open the target's training rows with the answers of all folds."""
    rows = prepared.open(stacked.target, "train")
    found: dict[int, NDArray[np.float32]] = {}
    for fold in range(experiment.stacking.folds):
        indices = asked(experiment, prepared, stacked, fold)
        said = np.lib.format.open_memmap(answers(run, fold), "r")
        ends = np.cumsum([0, *(int(rows.lengths[i]) for i in indices)])
        parts = zip(indices, ends[:-1], ends[1:], strict=True)
        found |= {index: said[start:end] for index, start, end in parts}
    return Answered(rows, found, size)


def leaks(experiment: Experiment, prepared: Prepared) -> list[str]:
    """Tell of the target's texts that helpers are trained on, where that flatters the target."""
    target = experiment.target
    if target is None:
        return []
    helpers, told = [task for task in experiment.tasks if task != target], []
    for split, own in prepared.tasks[target].splits.items():
        count = 0 if split == "train" else int(overlapping(prepared, target, helpers, split).sum())
        if count:
            told.append(
                f"tasks.{target}: {count} of {own.rows} {split} rows have a text that a helper is "
                f"trained on; scores there may be better than on texts that are new."
            )
    stacked, stacking = of(experiment, prepared), experiment.stacking
    stacks = any(stage.stacks for stage in stages.of(experiment, prepared.layers))
    if stacked is None or not stacks or stacking.folds:
        return told
    if count := int(overlapping(prepared, target, stacked.features).sum()):
        told.append(
            f"stacking.folds is 0: helpers learn from the texts of {count} of "
            f"{prepared.tasks[target].splits['train'].rows} training rows of {target}, so what its "
            f"head reads of them there is better than it will be on others. Set stacking.folds=5."
        )
    return told


def refused(experiment: Experiment, prepared: Prepared) -> list[Problem]:
    """Find hidden states as features where texts overlap: those of two models are two languages."""
    stacked = of(experiment, prepared)
    if stacked is None or not any(s.stacks for s in stages.of(experiment, prepared.layers)):
        return []
    hidden = [task for task, kind in stacked.features.items() if kind == "hidden"]
    if not hidden or not overlapping(prepared, stacked.target, stacked.features).any():
        return []
    return [
        Problem(
            "stacking.features",
            f"is hidden for {', '.join(hidden)}, but {stacked.target} shares training texts with "
            "helpers, and hidden states of one fold's model mean nothing to another's; expected "
            "probabilities or logits",
        )
    ]
