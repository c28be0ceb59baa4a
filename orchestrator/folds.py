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


class Folds:
    """The fold of each text: its hash, mod ``count``; the same for all tasks.

    Texts that stand together in a row of the target (pairs) are in one fold, with all that stands
    with them there: one model answers the whole row.
    """

    def __init__(self, prepared: Prepared, target: str, count: int) -> None:
        texts, row = prepared.open(target, "train").texts
        names, text = np.unique(texts, return_inverse=True)
        rows = int(row.max(initial=-1)) + 1
        edges = sparse.coo_array(
            (np.ones(len(row), bool), (row, rows + text)), shape=(rows + len(names),) * 2
        )
        _, group = sparse.csgraph.connected_components(edges, directed=False)
        least = np.full(int(group.max(initial=0)) + 1, np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(least, group[rows:], names)
        self._prepared, self._names, self.count = prepared, names, count
        self._least = least[group[rows:]]
        """The text that decides for each text of the target, in the order of ``names``."""

    def of(self, texts: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Give the fold of each text."""
        place = np.searchsorted(self._names, texts).clip(max=max(0, len(self._names) - 1))
        known = self._names[place] == texts if len(self._names) else np.zeros(len(texts), bool)
        deciding = np.where(known, self._least[place] if len(self._names) else texts, texts)
        return (deciding % np.uint64(self.count)).astype(np.int64)

    def inside(self, task: str, fold: int) -> NDArray[np.bool_]:
        """Mark a task's training rows that hold a text of a fold, ``[rows]``."""
        rows = self._prepared.open(task, "train")
        texts, row = rows.texts
        found = np.zeros(len(rows), bool)
        found[row[self.of(texts) == fold]] = True
        return found


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
    """Open what a stage is trained on, without the rows of the fold that it leaves out."""
    every = {task: prepared.open(task, "train") for task in stage.tasks}
    if stage.fold is None:
        return dict(every)
    assert experiment.target is not None, "there are folds, so there is a target"
    own = Folds(prepared, experiment.target, experiment.stacking.folds)
    return {
        task: Part(rows, np.flatnonzero(~own.inside(task, stage.fold)))
        for task, rows in every.items()
    }


def asked(experiment: Experiment, prepared: Prepared, stacked: Stacked, fold: int) -> list[int]:
    """List the target's training rows that a fold's model answers."""
    own = Folds(prepared, stacked.target, experiment.stacking.folds)
    known = overlapping(prepared, stacked.target, stacked.features)
    found: list[int] = np.flatnonzero(own.inside(stacked.target, fold) & known).tolist()
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
    if stacked is None or not stacks:
        return told
    count = int(overlapping(prepared, target, stacked.features).sum())
    if stacking.folds and count:
        share = _fullest(experiment, prepared, target)[target]
        if share > max(0.5, 1.5 / stacking.folds):
            told.append(
                f"stacking.folds is {stacking.folds}, and {share:.0%} of the training rows of "
                f"{target} are in one fold, so its model learns from few others: rows that have a "
                "text in common are in one."
            )
    elif count:
        told.append(
            f"stacking.folds is 0: helpers learn from the texts of {count} of "
            f"{prepared.tasks[target].splits['train'].rows} training rows of {target}, so what its "
            f"head reads of them there is better than it will be on others. Set stacking.folds=5."
        )
    return told


def refused(experiment: Experiment, prepared: Prepared) -> list[Problem]:
    """Find hidden states as features where texts overlap, and folds that leave nothing to learn.

    Hidden states of two models are two languages.
    """
    stacked = of(experiment, prepared)
    if stacked is None or not any(s.stacks for s in stages.of(experiment, prepared.layers)):
        return []
    if not overlapping(prepared, stacked.target, stacked.features).any():
        return []
    problems = []
    if hidden := [task for task, kind in stacked.features.items() if kind == "hidden"]:
        problems.append(
            Problem(
                "stacking.features",
                f"is hidden for {', '.join(hidden)}, but {stacked.target} shares training texts "
                "with helpers, and hidden states of one fold's model mean nothing to another's; "
                "expected probabilities or logits",
            )
        )
    for task, share in _fullest(experiment, prepared, stacked.target).items():
        if share == 1:
            problems.append(
                Problem(
                    "stacking.folds",
                    f"is {experiment.stacking.folds}, and all training rows of {task} hold texts "
                    "of one fold, so its model would learn nothing of it; give more texts, or set "
                    "stacking.folds=0, which leaks",
                )
            )
    return problems


def _fullest(experiment: Experiment, prepared: Prepared, target: str) -> dict[str, float]:
    """Give the share of each task's training rows that hold texts of the fold with most."""
    count = experiment.stacking.folds
    own = Folds(prepared, target, max(1, count))
    return {
        task: max((float(own.inside(task, fold).mean()) for fold in range(count)), default=0.0)
        for task in sorted(prepared.tasks)
    }
