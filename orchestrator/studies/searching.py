"""The search that a study of the kind ``tune`` asks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tune_spaces
from orchestrator.experiment import Experiment, ExperimentError
from orchestrator.studies import points, proposals
from orchestrator.studies.study import Study
from orchestrator.studies.surrogate import Tried
from orchestrator.studies.trials import Trials


def search(asked: Mapping[str, Any], trials: Trials) -> proposals.Search:
    """Make it from a study's question.

    Raises ``ValueError`` or ``LookupError`` for a space, a search or an objective that cannot be.
    """
    base, ranges = trials.base, space(asked, trials)
    tasks, seed = sorted(base.tasks), base.train.seed
    goal = proposals.objective(asked["objective"], tasks, base.target)
    if asked["search"] == "random":
        return proposals.Random(ranges, seed)
    if asked["search"] == "optuna":
        return proposals.Optuna(ranges, seed, tasks, goal)
    earlier = [one for place in asked.get("earlier", []) for one in tried(Study(Path(place)))]
    return proposals.mixtures(ranges, tasks, goal, _caps(base, trials), seed, earlier)


def space(asked: Mapping[str, Any], trials: Trials) -> points.Ranges | points.Changes:
    """Give what a study's question varies. Raises ``ValueError`` or ``LookupError``."""
    name = asked["what"]
    found = tune_spaces.get(name)(trials.base.resolved())
    if wrong := points.problems(found, name):
        raise ExperimentError(wrong, "the space")
    return found


def tried(study: Study) -> list[Tried]:
    """Give the finished trials of an earlier study, also where it had fewer tasks."""
    mains = {task: study.prepared.family(task).main for task in study.prepared.tasks}
    return [
        Tried(
            result.shares,
            {task: own[mains[task]] for task, own in result.scores.items() if task in mains},
        )
        for result in study.results().values()
        if result.status == "finished"
    ]


def _caps(base: Experiment, trials: Trials) -> dict[str, float]:
    """Bound each task's share, so that it is read no more often than ``mixture.max_epochs``."""
    most = base.mixture.max_epochs
    if most is None:
        return {}
    lengths = trials.prepared.lengths()
    mean = sum(float(own.mean()) for own in lengths.values()) / len(lengths)
    examples = max(1.0, base.train.steps * base.batch.tokens / mean)
    return {task: min(1.0, most * len(own) / examples) for task, own in lengths.items()}
