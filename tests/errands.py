"""A study whose trials end at once, with scores that follow from their settings: no training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import studied

from orchestrator.experiment import load
from orchestrator.prepare import Prepared
from orchestrator.studies import study
from orchestrator.studies.agenda import Listed, Searched, Wanted
from orchestrator.studies.study import Asked, Result, Study
from orchestrator.studies.trials import Trials


class Toy:
    """One study, and what was run for it."""

    def __init__(
        self, folder: Path, trials: Trials, broken: Callable[[Any], bool] = lambda own: False
    ) -> None:
        self.trials, self.broken = trials, broken
        self.study = studied.make(folder, trials.prepared, experiment={}, metric="mean")
        self.ran: list[str] = []
        self.told: list[tuple[str, int, str, bool]] = []
        """Arm, seed, what became of it, and whether that was known before."""

    def tell(self, asked: Asked, result: Result, reused: bool) -> None:
        self.told.append((asked.arm, asked.seed, result.status, reused))

    def listed(self, wanted: Sequence[Wanted], earlier: Sequence[Path] = ()) -> Listed:
        return Listed(
            Study(self.study.folder), self.trials, wanted, earlier=earlier, tell=self.tell
        )

    def searched(self, search: Any, count: int) -> Searched:
        baseline = Wanted("as written", "baseline", {}, 0)
        own = Study(self.study.folder)
        return Searched(own, self.trials, search, count, baseline, tell=self.tell)

    def end(self, folder: Path) -> Result:
        """Do what a trial does."""
        experiment = load(folder / "experiment.yaml")
        place = Prepared.read(Path((folder / "prepared").read_text()))
        assert place.tasks.keys() >= experiment.tasks.keys()
        self.ran.append(folder.name)
        own = experiment.regularization.dropout + experiment.train.seed / 100
        score = own - abs(np.log10(experiment.optimizer.lr) + 3) / 10
        scores = {task: {"accuracy": score} for task in experiment.tasks}
        if self.broken(experiment):
            found = Result(folder.name, "failed", experiment.train.seed, error="ValueError: broken")
        else:
            shares = dict.fromkeys(experiment.tasks, 1 / len(experiment.tasks))
            found = Result(
                folder.name,
                "finished",
                experiment.train.seed,
                steps=4,
                score=score,
                scores=scores,
                shares=shares,
            )
        study.write(folder, found)
        return found

    def run(self, agenda: Any, most: int = 1000) -> None:
        """Run what is to be run, or so many of it, as if killed then."""
        for _ in range(most):
            try:
                folder = agenda.next()
            except StopIteration:
                return
            assert folder is not None
            agenda.ended(self.end(folder))

    def table(self) -> list[tuple[Any, ...]]:
        own = Study(self.study.folder)
        results = own.results()
        rows = [(one.arm, one.seed, one.changes, results[one.hash].score) for one in own.asked]
        return sorted(rows, key=lambda row: row[:2])


def wishes(seeds: int = 2) -> list[Wanted]:
    """Wish for four arms, of which two are the same."""
    arms: dict[str, Mapping[str, Any]] = {
        "all": {},
        "topic alone": {"tasks.sentiment": None, "target": "topic"},
        "much": {"regularization.dropout": 0.4},
        "as it is": {"regularization.dropout": 0.1},
    }
    return [Wanted(a, "arm", changes, s) for s in range(seeds) for a, changes in arms.items()]
