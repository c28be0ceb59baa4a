"""A surrogate of mixtures: few trials, a regression for each task, and where its best mixture lies.

A first design of well-spread mixtures is tried; then each task's score is fitted as a function of
all shares, the objective is made of the fits, and the best mixture by them is tried next (RegMix,
Liu et al. 2025, with one fit a task). Nothing is remembered between calls: what comes next follows
from the trials that were finished, so a search that was interrupted goes on where it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV

Array = NDArray[np.float64]

PER_TASK = 2
"""Mixtures of the first design, for each task."""
FEWEST = 6
"""Of them in all."""
REPEATS = 2
"""Trials of the even mixture, which tell the noise."""
TRUSTED = 0.5
"""Rank correlation of predictions with what was left out, below which nothing is recommended."""
SPREAD = 2000
"""Random mixtures from which well-spread ones are taken, and among which the best is looked for."""


class Law(Protocol):
    """How a score follows from shares, fitted to trials."""

    def predict(self, shares: Array) -> Array:
        """Give a score ``[n]`` for mixtures ``[n, tasks]``."""

    def left_out(self) -> Array:
        """Give what each of the trials would have been foretold from all others, ``[n]``."""


class Roots:
    """A score that is linear in the square roots of the shares, by ridge regression.

    Its strength is chosen by leave-one-out error (the closed form of Golub et al. 1979).
    """

    def __init__(self, shares: Array, scores: Array) -> None:
        self._given = shares, scores
        self._model = RidgeCV(alphas=np.logspace(-6, 2, 17)).fit(np.sqrt(shares), scores)
        self.slopes: Array = self._model.coef_

    def predict(self, shares: Array) -> Array:
        found: Array = self._model.predict(np.sqrt(shares))
        return found

    def left_out(self) -> Array:
        return np.array([Roots(*rest).predict(own)[0] for own, rest in _folds(*self._given)])


class LogLinear:
    """A score that falls short of its ceiling by an exponential of a linear function of shares.

    The mixing law of Ye et al. 2025 (Data Mixing Laws), for scores in place of losses.
    """

    def __init__(self, shares: Array, scores: Array, first: Array | None = None) -> None:
        """``first`` is where the search begins."""
        self._given = shares, scores
        spread = max(float(np.ptp(scores)), 1e-6)
        if first is None:
            ends = [scores.max() + spread, np.log(spread)]
            first = np.concatenate([ends, np.zeros(shares.shape[1])])

        def short(values: Array) -> Array:
            pull = 1e-3 * spread * values[2:]
            return np.concatenate([self._at(values, shares) - scores, pull])

        self._values = optimize.least_squares(short, first, max_nfev=200).x

    @staticmethod
    def _at(values: Array, shares: Array) -> Array:
        found: Array = values[0] - np.exp(np.clip(values[1] + shares @ values[2:], -30, 30))
        return found

    def predict(self, shares: Array) -> Array:
        return self._at(self._values, shares)

    def left_out(self) -> Array:
        every = _folds(*self._given)
        return np.array([LogLinear(*rest, self._values).predict(own)[0] for own, rest in every])


class Gaussian:
    """A Gaussian process over the square roots of the shares (Rasmussen and Williams 2006)."""

    def __init__(self, shares: Array, scores: Array) -> None:
        kernel = ConstantKernel(1.0) * RBF(0.5, (0.05, 10.0)) + WhiteKernel(0.1, (1e-6, 1.0))
        self._scores = scores
        self._model = GaussianProcessRegressor(kernel, normalize_y=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of bounds that are reached
            self._model.fit(np.sqrt(shares), scores)

    def predict(self, shares: Array) -> Array:
        found: Array = self._model.predict(np.sqrt(shares))
        return found

    def left_out(self) -> Array:
        """By the closed form, with the kernel of all trials (the same book, equation 5.12)."""
        inverse = np.linalg.inv(self._model.L_ @ self._model.L_.T)
        errors = self._model.alpha_ / np.diag(inverse) * self._model._y_train_std
        found: Array = self._scores - errors
        return found


def _folds(shares: Array, scores: Array) -> Iterator[tuple[Array, tuple[Array, Array]]]:
    """Leave out each trial in turn: its mixture ``[1, tasks]``, and all others."""
    for own in range(len(scores)):
        yield shares[[own]], (np.delete(shares, own, 0), np.delete(scores, own))


LAWS: Mapping[str, Callable[[Array, Array], Law]] = {
    "roots": Roots,
    "log-linear": LogLinear,
    "gaussian": Gaussian,
}
"""The one with the least leave-one-out error is taken for each task; ties go to the first."""


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
        among, chosen = np.sqrt(self._candidates(1.0)), np.sqrt(even)
        for _ in range(count):  # the farthest from all so far: Gonzalez 1985
            near = ((among[:, None] - chosen[None]) ** 2).sum(-1).min(1)
            chosen = np.concatenate([chosen, among[[int(near.argmax())]]])
        return [self._named(own) for own in (*even.repeat(REPEATS, 0), *chosen[1:] ** 2)]

    def suggest(self, tried: Sequence[Tried]) -> dict[str, float] | None:
        """Give the mixture to try next, or None when no more is to be gained.

        ``tried`` are this search's finished trials and, before them, any of earlier ones.
        """
        known = [self._row(one.shares) for one in tried]
        for wanted in self.design():
            row = self._row(wanted)
            place = next(
                (i for i, own in enumerate(known) if np.allclose(own, row, atol=1e-6)), None
            )
            if place is None:
                return wanted
            known.pop(place)
        found = self.fit(tried)
        return None if found.gain <= found.noise else found.best

    def fit(self, tried: Sequence[Tried]) -> Fit:
        """Fit each task's score, and look for the best mixture; needs the trials of a design."""
        shares = np.stack([self._row(one.shares) for one in tried])
        scores = np.array([[one.scores.get(t, np.nan) for t in self.tasks] for one in tried])
        laws: list[tuple[str, Law]] = []
        left_out = np.full_like(scores, np.nan)
        for place in range(len(self.tasks)):
            there = np.isfinite(scores[:, place])
            name, law, guesses = _chosen(shares[there], scores[there, place])
            left_out[there, place] = guesses
            laws.append((name, law))

        def predicted(mixtures: Array) -> Array:
            return self.objective(np.stack([law.predict(mixtures) for _, law in laws], -1))

        best = self._best(predicted, shares)
        whole = np.isfinite(scores).all(1)
        observed, guessed = self.objective(scores[whole]), self.objective(left_out[whole])
        noise = _noise(shares[whole], observed)
        error = max(float(np.mean((guessed - observed) ** 2)) - noise**2, 1e-12)
        weight = error / (error + noise**2)  # of what was seen, against what was foretold
        likely = weight * observed + (1 - weight) * guessed
        top = int(likely.argmax())
        return Fit(
            laws={task: name for task, (name, _) in zip(self.tasks, laws, strict=True)},
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
        """Bring mixtures to the sum 1 under the caps; what is cut off goes to the others."""
        caps = np.array([self.caps.get(task, 1.0) for task in self.tasks])
        found = mixtures / np.maximum(mixtures.sum(1, keepdims=True), 1e-12)
        for _ in self.tasks:
            found = np.minimum(found, caps)
            rest = 1 - found.sum(1, keepdims=True)
            open_ = np.where(found < caps, np.maximum(found, 1e-9), 0.0)
            found = found + rest * open_ / np.maximum(open_.sum(1, keepdims=True), 1e-12)
        return found.clip(0.0, 1.0)

    def _row(self, shares: Mapping[str, float]) -> Array:
        return np.array([shares.get(task, 0.0) for task in self.tasks])

    def _named(self, row: Array) -> dict[str, float]:
        return dict(zip(self.tasks, map(float, row), strict=True))


def _chosen(shares: Array, scores: Array) -> tuple[str, Law, Array]:
    """Give the law with the least leave-one-out error, and what that foretells of each trial."""
    every = {name: law(shares, scores) for name, law in LAWS.items()}
    found = {name: law.left_out() for name, law in every.items()}
    best = min(found, key=lambda name: float(((found[name] - scores) ** 2).sum()))
    return best, every[best], found[best]


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
