"""What designs of many arms add up to: a matrix of helpers, a helper's own part, curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.studies import statistics
from orchestrator.studies.contrasts import LEVEL, Comparison
from orchestrator.studies.evidence import Evidence
from orchestrator.studies.statistics import Array


@dataclass(frozen=True)
class Cell:
    """What a helper gives a target: the score of both together less the target's alone."""

    target: str
    helper: str
    gain: float
    low: float | None
    high: float | None
    p: float
    adjusted: float
    significant: bool
    seeds: int


@dataclass(frozen=True)
class Effect:
    """What a helper adds in a linear model of the score over the presence of helpers."""

    helper: str
    value: float
    low: float | None
    high: float | None
    p: float
    adjusted: float
    significant: bool
    seeds: int


@dataclass(frozen=True)
class Point:
    """One strength of a curve."""

    value: float
    mean: float
    low: float | None
    high: float | None
    seeds: int
    base: bool
    """Whether it is the strength of the experiment as written."""


@dataclass(frozen=True)
class Curve:
    """The score against one setting, the others fixed; points by rising strength."""

    setting: str
    points: tuple[Point, ...]


def matrix(evidence: Evidence, compared: Sequence[Comparison]) -> list[Cell]:
    """Read the cells of a matrix off the comparisons of ``T + H`` with ``T alone``."""
    found = []
    for own in compared:
        pair = evidence.pair(own.arm) if evidence.pairs and own.arm in evidence.arms else None
        if pair is None or len(pair) < 2 or own.other != f"{pair[0]} alone" or own.mean is None:
            continue
        told = own.p, own.adjusted, own.significant, len(own.seeds)
        found.append(Cell(pair[0], pair[1], own.mean, own.low, own.high, *told))
    return found


def helpers(evidence: Evidence) -> list[Effect]:
    """Fit the target's score as a sum over the helpers that are there (Li et al. 2023).

    Least squares over the arms of all seeds; the interval is that of seeds drawn anew, and p is
    the sign-flip test of the fits of each seed alone. Nothing where arms are too few to tell.
    """
    target = evidence.question.get("target")
    measure, names = None, [task for task in evidence.families if task != target]
    fits: dict[int, tuple[Array, Array]] = {}
    for arm in _choices(evidence):
        measure = evidence.measure(arm)
        row = np.array([1.0, *(float(name in evidence.tasks(arm)) for name in names)])
        for seed, score in (evidence.values(arm, measure) if measure else {}).items():
            square, sums = fits.get(seed, (np.zeros((len(row), len(row))), np.zeros(len(row))))
            fits[seed] = square + np.outer(row, row), sums + row * score
    if not fits:
        return []
    squares, sums = (np.stack(own) for own in zip(*fits.values(), strict=True))
    if _rank(squares.sum(0)) <= len(names):
        return []
    values = np.linalg.solve(squares.sum(0), sums.sum(0))[1:]
    places = range(len(names))
    full = [place for place, square in enumerate(squares) if _rank(square) > len(names)]
    alone = np.array([np.linalg.solve(squares[place], sums[place])[1:] for place in full])
    drawn = _redrawn(squares[full], sums[full]) if len(full) > 1 else None
    ps = [statistics.sign_flip(alone[:, i].tolist()) if len(full) > 1 else 1.0 for i in places]
    found = []
    for i, adjusted in enumerate(statistics.benjamini_hochberg(ps)):
        low, high = (None, None) if drawn is None else statistics.interval(drawn[:, i])
        told = adjusted < LEVEL and len(full) >= statistics.FEWEST
        found.append(
            Effect(names[i], float(values[i]), low, high, ps[i], adjusted, told, len(full))
        )
    return found


def curves(evidence: Evidence, ends: Mapping[str, tuple[float, float] | None]) -> list[Curve]:
    """Gather the arms that change one number each, by setting; ``ends`` are arms' intervals."""
    points: dict[str, list[Point]] = {}
    for arm, asked in evidence.arms.items():
        changed = _number(asked[0].changes)
        if changed is not None:
            setting, value = changed
            points.setdefault(setting, []).extend(_point(evidence, arm, value, ends, False))
    for setting, own in points.items():
        base = next((arm for arm, asked in evidence.arms.items() if not asked[0].changes), None)
        results = list(evidence.finished(base).values()) if base else []
        written = results[0].settings.get(setting) if results else None
        if base and written is not None and written not in [point.value for point in own]:
            own.extend(_point(evidence, base, written, ends, True))
    return [
        Curve(setting, tuple(sorted(own, key=lambda point: point.value)))
        for setting, own in points.items()
        if own
    ]


def _number(changes: Mapping[str, Any]) -> tuple[str, float] | None:
    """Give the one number that an arm sets, perhaps also for tasks that have their own."""
    mine = {key: value for key, value in changes.items() if not key.startswith("tasks.")}
    if len(mine) != 1:
        return None
    ((setting, value),) = mine.items()
    same = all(key in mine or key.endswith(f".{setting}") for key in changes)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (setting, float(value)) if same and number else None


def _point(
    evidence: Evidence,
    arm: str,
    value: float,
    ends: Mapping[str, tuple[float, float] | None],
    base: bool,
) -> Iterator[Point]:
    measure = evidence.measure(arm)
    scores = list(evidence.values(arm, measure).values()) if measure else []
    if scores:
        low, high = ends.get(arm) or (None, None)
        yield Point(float(value), float(np.mean(scores)), low, high, len(scores), base)


def _choices(evidence: Evidence) -> Iterator[str]:
    """List an arm for each set of tasks with the target, of those that change nothing else."""
    target = evidence.question.get("target")
    taken: dict[tuple[str, ...], str] = {}
    kinds = {arm: asked[0].kind for arm, asked in evidence.arms.items()}
    for arm in sorted(evidence.arms, key=lambda arm: kinds[arm] != "arm"):
        changes = evidence.arms[arm][0].changes
        plain = all(
            key.count(".") == 1 and value is None
            for key, value in changes.items()
            if key.startswith("tasks.")
        )
        if plain and kinds[arm] != "control" and target in evidence.tasks(arm):
            taken.setdefault(evidence.tasks(arm), arm)
    yield from taken.values()


def _redrawn(squares: Array, sums: Array) -> Array:
    """Fit again and again with seeds drawn anew, ``[draws, helpers]``."""
    random = np.random.default_rng(0)
    places = random.integers(0, len(sums), (statistics.DRAWS, len(sums)))
    found: Array = np.linalg.solve(squares[places].sum(1), sums[places].sum(1)[..., None])
    return found[:, 1:, 0]


def _rank(square: Array) -> int:
    return int(np.linalg.matrix_rank(square))
