"""What a search of a space came to: its trials in order, the best so far, the surrogate's fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.studies import proposals, statistics
from orchestrator.studies.evidence import Evidence
from orchestrator.studies.laws import chosen
from orchestrator.studies.statistics import Array
from orchestrator.studies.surrogate import FEWEST, TRUSTED, Fit, Surrogate, Tried

FINE = 40
"""Steps into which a side of the simplex, or a task's share, is divided for drawing."""


@dataclass(frozen=True)
class Trial:
    """One trial of a search."""

    place: int
    """From 1, in the order of asking."""
    arm: str
    seed: int
    hash: str
    status: str
    """``finished``, ``stopped``, ``failed``, or ``waiting`` before its end."""
    score: float | None
    """On validation: a search chooses by it, also in a final report."""
    best: float | None
    """Of all that had finished, in this order."""
    shares: Mapping[str, float]
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Surface:
    """How the objective follows from the shares."""

    tasks: tuple[str, ...]
    points: tuple[tuple[tuple[float, ...], float], ...]
    """Shares and objective of every finished trial."""
    grid: tuple[tuple[tuple[float, ...], float], ...]
    """The fit on the simplex; empty unless there are three tasks and the fit is trusted."""
    slices: Mapping[str, tuple[tuple[float, float], ...]]
    """The fit against each task's share, the others in proportion to ``centre``; as above."""
    centre: Mapping[str, float]
    """The mixture through which slices go: the recommended one, or the even one."""
    laws: Mapping[str, str]
    correlation: float | None
    """Rank correlation of trials with what all others foretell of them; None without a fit."""
    trusted: bool
    gain: float
    """What the best mixture of the fit promises above the recommended one."""
    noise: float
    recommended: Mapping[str, float] | None
    refusal: str | None
    """Why nothing is recommended."""


@dataclass(frozen=True)
class Search:
    """A search and where it stands."""

    trials: tuple[Trial, ...]
    expected: tuple[float, ...]
    """Expected best score of 1, 2, ... trials like those that finished."""
    surface: Surface | None


def searched(evidence: Evidence) -> Search:
    """Put a search's trials in order; for the space of mixtures, fit its surrogate."""
    trials: list[Trial] = []
    best: float | None = None
    for own in evidence.asked:
        if own.kind != "arm":
            continue
        result = evidence.results.get(own.hash)
        score = result.score if result else None
        if result and result.status == "finished" and score is not None:
            best = score if best is None else max(best, score)
        status, shares = (result.status, result.shares) if result else ("waiting", {})
        trials.append(
            Trial(
                place=len(trials) + 1,
                arm=own.arm,
                seed=own.seed,
                hash=own.hash,
                status=status,
                score=score,
                best=best,
                shares=shares,
                changes=own.changes,
            )
        )
    scores = [t.score for t in trials if t.status == "finished" and t.score is not None]
    mixtures = str(evidence.question.get("what")) in ("mixture", "mixture:space")
    surface = surface_of(evidence) if mixtures else None
    return Search(tuple(trials), tuple(statistics.expected_best(scores)), surface)


def surface_of(evidence: Evidence) -> Surface:
    """Fit the surrogate to all finished trials of the search, on validation."""
    tasks = tuple(evidence.families)
    mains = {task: family.main for task, family in evidence.families.items()}
    tried = []
    for digest in dict.fromkeys(own.hash for own in evidence.asked):
        result = evidence.results.get(digest)
        if result is None or result.status != "finished" or not result.shares:
            continue
        scores = {t: result.scores[t][m] for t, m in mains.items() if m in result.scores.get(t, {})}
        if len(scores) == len(tasks):
            tried.append(Tried(dict(result.shares), scores))
    shares = np.array([[one.shares.get(task, 0.0) for task in tasks] for one in tried])
    scores_ = np.array([[one.scores[task] for task in tasks] for one in tried])
    target = evidence.question.get("target")
    goal = evidence.question.get("objective") or ("target" if target else "mean")
    objective = proposals.objective(goal, tasks, target)
    values = objective(scores_) if tried else np.zeros(0)
    points = tuple((tuple(map(float, s)), float(v)) for s, v in zip(shares, values, strict=True))
    needed = max(FEWEST, 2 * len(tasks))
    if len(tried) < needed:
        refusal = f"{len(tried)} of at least {needed} trials have finished"
        even = dict.fromkeys(tasks, 1 / len(tasks))
        return Surface(tasks, points, (), {}, even, {}, None, False, 0.0, 0.0, None, refusal)
    search = Surrogate(tasks, objective, _caps(evidence, tasks))
    return _surface(search, search.fit(tried), points, shares, scores_)


def _surface(search: Surrogate, fit: Fit, points: Any, shares: Array, scores: Array) -> Surface:
    tasks = tuple(search.tasks)
    refusal = (
        None
        if fit.trusted
        else (
            f"the rank correlation of trials with what the others foretell of them is"
            f" {fit.correlation:.2f}, and below {TRUSTED} nothing is recommended"
        )
    )
    centre = fit.tried if fit.trusted else dict.fromkeys(tasks, 1 / len(tasks))
    grid: tuple[Any, ...] = ()
    slices: dict[str, tuple[tuple[float, float], ...]] = {}
    if fit.trusted:
        laws = [chosen(shares, scores[:, place])[1] for place in range(len(tasks))]

        def predicted(mixtures: Array) -> Array:
            return search.objective(np.stack([law.predict(mixtures) for law in laws], -1))

        if len(tasks) == 3:
            where = _lattice()
            grid = tuple(
                (tuple(map(float, own)), float(value))
                for own, value in zip(where, predicted(where), strict=True)
            )
        slices = {task: _slice(predicted, centre, task) for task in tasks}
    return Surface(
        tasks=tasks,
        points=points,
        grid=grid,
        slices=slices,
        centre=centre,
        laws=fit.laws,
        correlation=fit.correlation,
        trusted=fit.trusted,
        gain=fit.gain,
        noise=fit.noise,
        recommended=fit.tried if fit.trusted else None,
        refusal=refusal,
    )


def _slice(
    predicted: Callable[[Array], Array], centre: Mapping[str, float], task: str
) -> tuple[tuple[float, float], ...]:
    """Give the fit against one task's share, the others in proportion."""
    own = np.linspace(0.0, 1.0, FINE + 1)
    rest = np.array([0.0 if name == task else share for name, share in centre.items()])
    if not rest.any():
        rest = np.array([float(name != task) for name in centre])
    mixtures = (1 - own)[:, None] * rest / rest.sum()
    mixtures[:, list(centre).index(task)] = own
    values = predicted(mixtures)
    return tuple((float(x), float(y)) for x, y in zip(own, values, strict=True))


def _lattice() -> Array:
    """List evenly spread mixtures of three, ``[n, 3]``."""
    rows = [(i, j, FINE - i - j) for i in range(FINE + 1) for j in range(FINE + 1 - i)]
    return np.array(rows, np.float64) / FINE


def _caps(evidence: Evidence, tasks: tuple[str, ...]) -> dict[str, float]:
    """Give the largest share of each task that a limit of epochs allows in as many examples."""
    mixture = (evidence.question.get("experiment") or {}).get("mixture") or {}
    epochs = mixture.get("max_epochs")
    most = max((sum(own.examples_seen.values()) for own in evidence.results.values()), default=0)
    if not isinstance(epochs, int | float) or not most:
        return {}
    found = {task: min(1.0, epochs * evidence.rows(task) / most) for task in tasks}
    return found if sum(found.values()) >= 1 else {}
