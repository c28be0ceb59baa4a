"""Laws of mixtures: how a task's score follows from the shares of all tasks, fitted to trials."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV

Array = NDArray[np.float64]


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
        """By the closed form, with the strength of all trials: errors over 1 - leverage."""
        shares, scores = self._given
        roots = np.sqrt(shares) - np.sqrt(shares).mean(0)
        inner = roots.T @ roots + self._model.alpha_ * np.eye(shares.shape[1])
        leverage = 1 / len(scores) + (roots * np.linalg.solve(inner, roots.T).T).sum(1)
        found: Array = scores - (scores - self.predict(shares)) / (1 - leverage)
        return found


class LogLinear:
    """A score that falls short of its ceiling by an exponential of a linear function of shares.

    The mixing law of Ye et al. 2025 (Data Mixing Laws), for scores in place of losses.
    """

    def __init__(self, shares: Array, scores: Array, first: Array | None = None) -> None:
        """``first`` is where the search begins."""
        self._given = shares, scores
        spread, looks = max(float(np.ptp(scores)), 1e-6), 20
        if first is None:
            looks = 80
            ends = [scores.max() + spread, np.log(spread)]
            first = np.concatenate([ends, np.zeros(shares.shape[1])])

        pull = 1e-3 * spread * np.eye(len(first))[2:]  # towards no influence, a little

        def short(values: Array) -> Array:
            return np.concatenate([self._at(values, shares) - scores, pull @ values])

        def slope(values: Array) -> Array:
            fall = (values[0] - self._at(values, shares))[:, None]
            own = np.concatenate([np.ones_like(fall), -fall, -fall * shares], axis=1)
            return np.concatenate([own, pull])

        self._values = optimize.least_squares(short, first, slope, max_nfev=looks).x

    @staticmethod
    def _at(values: Array, shares: Array) -> Array:
        found: Array = values[0] - np.exp(np.clip(values[1] + shares @ values[2:], -30, 30))
        return found

    def predict(self, shares: Array) -> Array:
        return self._at(self._values, shares)

    def left_out(self) -> Array:
        every = folds(*self._given)
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


def folds(shares: Array, scores: Array) -> Iterator[tuple[Array, tuple[Array, Array]]]:
    """Leave out each trial in turn: its mixture ``[1, tasks]``, and all others."""
    for own in range(len(scores)):
        yield shares[[own]], (np.delete(shares, own, 0), np.delete(scores, own))


LAWS: Mapping[str, Callable[[Array, Array], Law]] = {
    "roots": Roots,
    "log-linear": LogLinear,
    "gaussian": Gaussian,
}
"""The one with the least leave-one-out error is taken for each task; ties go to the first."""


def chosen(shares: Array, scores: Array) -> tuple[str, Law, Array]:
    """Give the law with the least leave-one-out error, and what that foretells of each trial."""
    every = {name: law(shares, scores) for name, law in LAWS.items()}
    found = {name: law.left_out() for name, law in every.items()}
    best = min(found, key=lambda name: float(((found[name] - scores) ** 2).sum()))
    return best, every[best], found[best]
