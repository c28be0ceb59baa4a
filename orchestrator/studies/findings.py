"""What a study found, finished or not, as plain data; and its answer in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.studies import answers, contrasts, effects, lineages, searched, statistics
from orchestrator.studies.contrasts import Comparison
from orchestrator.studies.effects import Cell, Curve, Effect
from orchestrator.studies.evidence import Evidence
from orchestrator.studies.lineages import Piece
from orchestrator.studies.searched import Search
from orchestrator.studies.study import Result, Study


@dataclass(frozen=True)
class Arm:
    """What one arm's finished trials came to."""

    name: str
    kind: str
    tasks: tuple[str, ...]
    score: str
    """What it is scored by; empty if it lacks the task that the study is about."""
    asked: int
    """Trials."""
    seeds: tuple[int, ...]
    """Finished, with a score."""
    values: tuple[float, ...]
    """Score of each of these."""
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    """95 % bootstrap interval; None below two seeds."""
    items: bool
    """Whether the interval also knows the noise of the rows."""
    mains: Mapping[str, float]
    """Mean main score of each task."""
    seen: Mapping[str, float]
    """Mean number of examples of each task."""
    steps: float | None
    seconds: float | None
    drift: float | None


@dataclass(frozen=True)
class Ended:
    """A trial that did not finish."""

    arm: str
    seed: int
    hash: str
    reason: str
    steps: int


@dataclass(frozen=True)
class Spent:
    """What a study cost so far. Trials count once, whatever number of arms share them."""

    asked: int
    finished: int
    stopped: int
    failed: int
    waiting: int
    """Asked for and not ended, or planned and not yet asked for."""
    seconds: float
    """Of all that ended."""
    by_arm: Mapping[str, Mapping[str, float]]
    """Arm to status to seconds; a shared trial counts for the first arm that asked for it."""


@dataclass(frozen=True)
class Findings:
    """All that a study's page says."""

    question: Mapping[str, Any]
    final: bool
    """Whether scores are those of the test rows."""
    arms: tuple[Arm, ...]
    declared: tuple[Comparison, ...]
    exploratory: tuple[Comparison, ...]
    matrix: tuple[Cell, ...]
    helpers: tuple[Effect, ...]
    curves: tuple[Curve, ...]
    search: Search | None
    lineage: tuple[Piece, ...]
    """Of a population, all parts of its members."""
    failures: tuple[Ended, ...]
    stopped: tuple[Ended, ...]
    spent: Spent
    openings: tuple[Mapping[str, str], ...]
    """Of the test items, so far."""
    answer: str
    cautions: tuple[str, ...]
    """What a careful reader has to know."""


def find(study: Study, final: bool = False) -> Findings:
    """Say what a study found so far.

    ``final`` opens the sealed test items, leaves a record of it, and computes all scores but
    those of a search's trials from them; otherwise only validation is looked at.
    """
    evidence = Evidence(study, final)
    lineage = lineages.pieces(study)
    seconds = {own.hash: own.seconds for own in evidence.results.values()}
    seconds |= lineages.seconds(lineage)
    arms = tuple(_arm(evidence, name, seconds) for name in evidence.arms)
    declared, others = contrasts.declared(evidence), contrasts.exploratory(evidence)
    ends = {
        own.name: (own.low, own.high)
        for own in arms
        if own.low is not None and own.high is not None
    }
    what, kind = evidence.question.get("what"), evidence.question.get("kind")
    matrix = effects.matrix(evidence, [*declared, *others])
    helpers = effects.helpers(evidence) if what == "subsets" else []
    search = searched.searched(evidence) if kind == "tune" else None
    spent = _spent(evidence, seconds)
    told = answers.Told(
        evidence=evidence,
        declared=declared,
        exploratory=others,
        helpers=helpers,
        search=search,
        progress=answers.Progress(spent.asked + _unasked(evidence), spent.waiting, spent.failed),
    )
    return Findings(
        question=study.question,
        final=final,
        arms=arms,
        declared=tuple(declared),
        exploratory=tuple(others),
        matrix=tuple(matrix),
        helpers=tuple(helpers),
        curves=tuple(effects.curves(evidence, ends)) if what == "regularization" else (),
        search=search,
        lineage=lineage,
        failures=(*_ended(evidence, "failed"), *_lost(study)),
        stopped=_ended(evidence, "stopped"),
        spent=spent,
        openings=tuple(study.question.get("openings") or ()),
        answer=answers.answer(told),
        cautions=tuple(answers.cautions(told)),
    )


def _arm(evidence: Evidence, name: str, seconds: Mapping[str, float]) -> Arm:
    measure = evidence.measure(name)
    results = list(evidence.finished(name).values())
    values = evidence.values(name, measure) if measure else {}
    scores = list(values.values())
    low = high = None
    items = False
    if measure and len(values) > 1:
        draws = evidence.draws(measure, tuple(values))
        low, high = statistics.interval(draws.values[name])
        items = draws.items
    return Arm(
        name=name,
        kind=evidence.arms[name][0].kind,
        tasks=evidence.tasks(name),
        score=evidence.label(measure) if measure else "",
        asked=len(evidence.arms[name]),
        seeds=tuple(values),
        values=tuple(scores),
        mean=_mean(scores),
        sd=float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        low=low,
        high=high,
        items=items,
        mains=_means([evidence.mains(own) for own in results]),
        seen=_means([own.examples_seen for own in results]),
        steps=_mean([own.steps for own in results]),
        seconds=_mean([seconds[own.hash] for own in results]),
        drift=_mean([own.drift for own in results]),
    )


def _mean(values: list[Any]) -> float | None:
    return float(np.mean(values)) if values else None


def _means(found: list[Any]) -> dict[str, float]:
    """Average each key over the mappings that have it."""
    keys = dict.fromkeys(key for own in found for key in own)
    return {key: float(np.mean([own[key] for own in found if key in own])) for key in keys}


def _ended(evidence: Evidence, status: str) -> tuple[Ended, ...]:
    found = []
    for own in evidence.asked:
        result = evidence.results.get(own.hash)
        if result is not None and result.status == status:
            why = result.error or ("no reason was kept" if status == "failed" else "by its search")
            found.append(Ended(own.arm, own.seed, own.hash, why, result.steps))
    return tuple(found)


def _lost(study: Study) -> tuple[Ended, ...]:
    """Give the parts of members that failed."""
    parts = {own.hash for own in study.parts}
    return tuple(
        Ended(own.arm, own.seed, own.hash, why, 0)
        for own, why in study.failures()
        if own.hash in parts
    )


def _spent(evidence: Evidence, seconds: Mapping[str, float]) -> Spent:
    first = {own.hash: own.arm for own in reversed(evidence.asked)}
    by_arm: dict[str, dict[str, float]] = {}
    ended: dict[str, list[Result]] = {"finished": [], "stopped": [], "failed": []}
    for digest, result in evidence.results.items():
        ended[result.status].append(result)
        own = by_arm.setdefault(first[digest], {})
        own[result.status] = own.get(result.status, 0.0) + seconds[digest]
    return Spent(
        asked=len(first),
        finished=len(ended["finished"]),
        stopped=len(ended["stopped"]),
        failed=len(ended["failed"]),
        waiting=len(first) - len(evidence.results) + _unasked(evidence),
        seconds=sum(seconds.values()),
        by_arm={arm: by_arm[arm] for arm in evidence.arms if arm in by_arm},
    )


def _unasked(evidence: Evidence) -> int:
    """Count the trials that a search has planned and not yet asked for."""
    planned = evidence.question.get("trials")
    if evidence.question.get("kind") != "tune" or not isinstance(planned, int):
        return 0
    return max(0, planned - sum(own.kind == "arm" for own in evidence.asked))
