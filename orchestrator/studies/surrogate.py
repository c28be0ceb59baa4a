"""A surrogate of mixtures: few trials, a regression for each task, and where its best mixture lies.

A first design of well-spread mixtures is tried; then each task's score is fitted as a function of
all shares, the objective is made of the fits, and the best mixture by them is tried next (RegMix,
Liu et al. 2025, with one fit a task). Nothing is remembered between calls: what comes next follows
from the trials that were finished, so a search that was interrupted goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from orchestrator.studies.laws import Array, Law, chosen

PER_TASK = 2
"""Mixtures of the first design, for each task."""
FEWEST = 6
"""Of them in all."""
REPEATS = 2
"""Trials of the even mixture, which tell the noise."""
LEAST = 1e-3
"""Of a share: a task with none would not be learnt at all."""
TRUSTED = 0.5
"""Rank correlation of predictions with what was left out, below which nothing is recommended."""
SPREAD = 2000
"""Random mixtures from which well-spread ones are taken, and among which the best is looked for."""


@dataclass(frozen=True)
class Tried:
    """One finished trial."""

    shares: Mapping[str, float]
    """Of the examples; a task that was not there had none."""
    scores: Mapping[str, float]
    """Each task's own, more is better; of an earlier study, perhaps not of all tasks."""


@dataclass(frozen=True)
class Fit:
    """What the trials so far say."""

    laws: dict[str, str]
    """The law taken for each task."""
    correlation: float
    """Spearman's, of the objective with its predictions for each trial from all others."""
    best: dict[str, float]
    """The mixture that the fits like best, tried or not."""
    gain: float
    """What it promises above the best of those that were tried."""
    tried: dict[str, float]
    """The best of those, by what was seen and what the others foretell of it, each as far as it can
    be relied on: what a search recommends."""
    noise: float
    """Standard deviation of the objective over repeats of one mixture; 0 where there are none."""

    @property
    def trusted(self) -> bool:
        """Whether the fits foretell trials well enough to recommend anything."""
        return self.correlation >= TRUSTED


@dataclass(frozen=True)
class Surrogate:
    """Suggests mixtures of tasks, from those that were tried."""

    tasks: Sequence[str]
    objective: Callable[[Array], Array] = field(default=lambda scores: scores.mean(-1))
    """From scores ``[..., tasks]`` to ``[...]``."""
    caps: Mapping[str, float] = field(default_factory=dict)
    """The largest share of a task, as its number of rows and a limit of epochs allow."""
    seed: int = 0

    def design(self) -> list[dict[str, float]]:
        """List the mixtures to begin with: the even one, some times, and others far from all."""
        count = max(FEWEST, PER_TASK * len(self.tasks))
        even = self._within(np.full((1, len(self.tasks)), 1 / len(self.tasks)))
        among, taken = np.sqrt(self._candidates(1.0)), np.sqrt(even)
        for _ in range(count):  # the farthest from all so far: Gonzalez 1985
            near = ((among[:, None] - taken[None]) ** 2).sum(-1).min(1)
            taken = np.concatenate([taken, among[[int(near.argmax())]]])
        return [self._named(own) for own in (*even.repeat(REPEATS, 0), *taken[1:] ** 2)]

    def suggest(self, tried: Sequence[Tried]) -> dict[str, float] | None:
        """Give the mixture to try next, or None when no more is to be gained.

        ``tried`` are this search's finished trials and, before them, any of earlier ones.
        """
        left = self.untried([one.shares for one in tried])
        if left is not None:
            return left
        found = self.fit(tried)
        return None if found.gain <= found.noise else found.best

    def untried(
        self, asked: Sequence[Mapping[str, float]], earlier: Sequence[Tried] = ()
    ) -> dict[str, float] | None:
        """Give the first mixture of the design that was not asked for, None if all were.

        Trials of earlier studies stand for as many of its last ones, as far as tasks that are new
        since then leave it.
        """
        design = self.design()
        new = [task for task in self.tasks if all(task not in one.scores for one in earlier)]
        least = REPEATS + PER_TASK * len(new)
        needed = max(len(design) - len(earlier), min(least, len(design)))
        known = [self._row(shares) for shares in asked]
        for wanted in design[:needed]:
            row = self._row(wanted)
            place = next(
                (i for i, own in enumerate(known) if np.allclose(own, row, atol=1e-6)), None
            )
            if place is None:
                return wanted
            known.pop(place)
        return None

    def fit(self, tried: Sequence[Tried]) -> Fit:
        """Fit each task's score, and look for the best mixture; needs the trials of a design."""
        shares = np.stack([self._row(one.shares) for one in tried])
        scores = np.array([[one.scores.get(t, np.nan) for t in self.tasks] for one in tried])
        fits: list[tuple[str, Law]] = []
        left_out = np.full_like(scores, np.nan)
        for place in range(len(self.tasks)):
            there = np.isfinite(scores[:, place])
            name, law, guesses = chosen(shares[there], scores[there, place])
            left_out[there, place] = guesses
            fits.append((name, law))

        def predicted(mixtures: Array) -> Array:
            return self.objective(np.stack([law.predict(mixtures) for _, law in fits], -1))

        best = self._best(predicted, shares)
        whole = np.isfinite(scores).all(1)
        observed, guessed = self.objective(scores[whole]), self.objective(left_out[whole])
        noise = _noise(shares[whole], observed)
        error = max(float(np.mean((guessed - observed) ** 2)) - noise**2, 1e-12)
        weight = error / (error + noise**2)  # of what was seen, against what was foretold
        likely = weight * observed + (1 - weight) * guessed
        top = int(likely.argmax())
        return Fit(
            laws={task: name for task, (name, _) in zip(self.tasks, fits, strict=True)},
            correlation=_rank(guessed, observed),
            best=self._named(best),
            gain=float(predicted(best[None])[0] - likely[top]),
            tried=self._named(shares[whole][top]),
            noise=noise,
        )

    def _best(self, predicted: Callable[[Array], Array], tried: Array) -> Array:
        """Look for the mixture of the highest prediction: everywhere, then ever closer by."""
        random = np.random.default_rng(self.seed)
        corners = self._candidates(0.3)
        among = np.concatenate([self._candidates(1.0), corners, self._within(tried)])
        best: Array = among[int(predicted(among).argmax())]
        for scale in (0.2, 0.1, 0.05, 0.02, 0.01, 0.005):
            moved = np.sqrt(best) + scale * random.normal(size=(SPREAD // 4, len(self.tasks)))
            near = self._within(np.concatenate([best[None], np.maximum(moved, 0) ** 2]))
            best = near[int(predicted(near).argmax())]
        return best

    def _candidates(self, level: float) -> Array:
        """Draw mixtures ``[SPREAD, tasks]``: level at 1, nearer to the corners below."""
        random = np.random.default_rng(self.seed)
        return self._within(random.dirichlet(np.full(len(self.tasks), level), SPREAD))

    def _within(self, mixtures: Array) -> Array:
        """Bring mixtures to the sum 1 between the least share and the caps.

        What is cut off goes to the others, and what is put on is taken from them.
        """
        caps = np.array([self.caps.get(task, 1.0) for task in self.tasks]).clip(LEAST)
        found = mixtures / np.maximum(mixtures.sum(1, keepdims=True), 1e-12)
        for _ in range(2 * len(self.tasks)):
            found = found.clip(LEAST, caps)
            rest = 1 - found.sum(1, keepdims=True)
            room = np.where(rest > 0, np.where(found < caps, found, 0.0), found - LEAST)
            found = found + rest * room / np.maximum(room.sum(1, keepdims=True), 1e-12)
        return found.clip(0.0, 1.0)

    def _row(self, shares: Mapping[str, float]) -> Array:
        return np.array([shares.get(task, 0.0) for task in self.tasks])

    def _named(self, row: Array) -> dict[str, float]:
        return dict(zip(self.tasks, map(float, row), strict=True))


def _rank(predicted: Array, observed: Array) -> float:
    """Give Spearman's correlation; 0 where either side is constant."""
    if len(observed) < 3 or np.ptp(predicted) == 0 or np.ptp(observed) == 0:
        return 0.0
    result: Any = stats.spearmanr(predicted, observed)
    return float(result.statistic)


def _noise(shares: Array, observed: Array) -> float:
    """Give the pooled standard deviation of trials of the same mixture."""
    groups: dict[bytes, list[float]] = {}
    for row, value in zip(np.round(shares, 6), observed, strict=True):
        groups.setdefault(row.tobytes(), []).append(float(value))
    again = [own for own in groups.values() if len(own) > 1]
    freedom = sum(len(own) - 1 for own in again)
    total = sum(float(np.var(own)) * len(own) for own in again)
    return float(np.sqrt(total / freedom)) if freedom else 0.0
