"""Differences between arms of a study, paired by seed: how large, how sure, and at what price."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.studies import statistics
from orchestrator.studies.evidence import Evidence, Measure

LEVEL = 0.05
MARGIN = 0.01
"""Of a score: a loss on another task that counts as none."""


@dataclass(frozen=True)
class Spared:
    """Whether another task keeps its score."""

    task: str
    mean: float
    """Difference of its main score."""
    p: float
    """Against the hypothesis that it loses the margin or more."""
    holds: bool


@dataclass(frozen=True)
class Comparison:
    """An arm against another one, over the seeds that both have finished."""

    arm: str
    other: str
    declared: bool
    """Before the study began; others are exploratory."""
    score: str
    """What is compared; empty if the arms have nothing in common."""
    seeds: tuple[int, ...] = ()
    differences: tuple[float, ...] = ()
    """The arm's score less the other's, for each seed."""
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    """95 % bootstrap interval; None below two seeds."""
    items: bool = False
    """Whether the interval also knows the noise of the rows."""
    p: float = 1.0
    """Exact sign-flip test, two-sided."""
    adjusted: float = 1.0
    """After Holm over all declared comparisons, or Benjamini-Hochberg over all others."""
    order: float | None = None
    """Almost stochastic order of the higher arm over the lower: less than 0.2 is convincing."""
    significant: bool = False
    spared: tuple[Spared, ...] = ()
    """Other tasks that both arms have."""


def declared(evidence: Evidence) -> list[Comparison]:
    """Make the comparisons that the question names; Holm counts also those without trials."""
    pairs = [(str(arm), str(other)) for arm, other in evidence.question.get("comparisons") or []]
    found = [compare(evidence, arm, other, True) for arm, other in pairs]
    return _adjusted(found, statistics.holm([own.p for own in found]))


def exploratory(evidence: Evidence) -> list[Comparison]:
    """Compare all that was not declared: arms with the baseline, or with their target alone."""
    named = {tuple(map(str, pair)) for pair in evidence.question.get("comparisons") or []}
    found = [
        compare(evidence, arm, other, False)
        for arm, other in _others(evidence)
        if (arm, other) not in named and (other, arm) not in named
    ]
    found = [own for own in found if len(own.seeds) > 1]
    return _adjusted(found, statistics.benjamini_hochberg([own.p for own in found]))


def compare(evidence: Evidence, arm: str, other: str, declared: bool) -> Comparison:
    """Compare two arms, p not yet adjusted."""
    measure = evidence.common(arm, other) if {arm, other} <= evidence.arms.keys() else None
    if measure is None:
        return Comparison(arm, other, declared, "")
    first, second = evidence.values(arm, measure), evidence.values(other, measure)
    seeds = tuple(seed for seed in first if seed in second)
    found = Comparison(arm, other, declared, evidence.label(measure), seeds)
    if not seeds:
        return found
    differences = [first[seed] - second[seed] for seed in seeds]
    found = replace(
        found,
        differences=tuple(differences),
        mean=float(np.mean(differences)),
        p=statistics.sign_flip(differences) if len(seeds) > 1 else 1.0,
        spared=tuple(_spared(evidence, arm, other, measure)),
    )
    if len(seeds) < 2:
        return found
    draws = evidence.draws(measure, seeds)
    low, high = statistics.interval(draws.values[arm] - draws.values[other])
    samples = [first[seed] for seed in seeds], [second[seed] for seed in seeds]
    better, worse = samples if np.mean(differences) >= 0 else samples[::-1]
    order = statistics.almost_order(better, worse)
    return replace(found, low=low, high=high, items=draws.items, order=order)


def _adjusted(found: Sequence[Comparison], values: Sequence[float]) -> list[Comparison]:
    return [
        replace(
            own,
            adjusted=value,
            significant=value < LEVEL and len(own.seeds) >= statistics.FEWEST,
        )
        for own, value in zip(found, values, strict=True)
    ]


def _others(evidence: Evidence) -> Iterator[tuple[str, str]]:
    baseline = evidence.question.get("baseline")
    for arm in evidence.arms:
        pair = evidence.pair(arm) if evidence.pairs else None
        if pair is not None:
            if len(pair) > 1:
                yield arm, f"{pair[0]} alone"
        elif baseline and arm != baseline:
            yield arm, str(baseline)


def _spared(evidence: Evidence, arm: str, other: str, measure: Measure) -> Iterator[Spared]:
    """Test every other task that both arms have; of a mean, each of its tasks."""
    margin = float(evidence.question.get("margin") or MARGIN)
    alone = measure.tasks[0] if len(measure.tasks) == 1 else None
    for task in evidence.tasks(arm):
        if task == alone or task not in evidence.tasks(other):
            continue
        own = Measure((task,))
        first, second = evidence.values(arm, own), evidence.values(other, own)
        differences = [first[seed] - second[seed] for seed in first if seed in second]
        if len(differences) > 1:
            p = statistics.not_inferior(differences, margin)
            holds = p < LEVEL and len(differences) >= statistics.FEWEST
            yield Spared(task, float(np.mean(differences)), p, holds)
