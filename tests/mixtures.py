"""A simulator of mixtures with a known optimum, for searches that never train."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.studies.surrogate import Surrogate, Tried

Array = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Tasks whose scores rise with effective data by a power law; some help each other, some harm.

    Task t has effective data d_t = e + sum_j A_tj w_j, A_tt = 1, and the score 1 - c_t d_t^-a_t.
    No law of the surrogate is this one.
    """

    helps: Array
    """A, ``[tasks, tasks]``."""
    ceilings: Array
    powers: Array

    @classmethod
    def drawn(cls, tasks: int, seed: int) -> World:
        random = np.random.default_rng(seed)
        helps = random.uniform(-0.2, 0.6, (tasks, tasks))
        np.fill_diagonal(helps, 1.0)
        return cls(helps, random.uniform(0.05, 0.3, tasks), random.uniform(0.2, 0.8, tasks))

    def scores(self, shares: Array) -> Array:
        """Give ``[..., tasks]`` for mixtures ``[..., tasks]``."""
        data = np.maximum(0.05 + shares @ self.helps.T, 0.02)
        found: Array = 1 - self.ceilings * data**-self.powers
        return found

    def best(self) -> float:
        """Look for the highest mean score, from everywhere and then ever closer by."""
        random = np.random.default_rng(0)
        tasks = len(self.ceilings)
        among = np.concatenate(
            [random.dirichlet(np.full(tasks, own), 20_000) for own in (0.3, 1.0, 3.0)]
        )
        top = among[int(self.scores(among).mean(-1).argmax())]
        for scale in (0.1, 0.03, 0.01, 0.003):
            near = np.abs(top + scale * random.normal(size=(4000, tasks)) * np.sqrt(top + 1e-3))
            near = np.concatenate([top[None], near / near.sum(1, keepdims=True)])
            top = near[int(self.scores(near).mean(-1).argmax())]
        return float(self.scores(top).mean())


class Trials:
    """Runs trials of a world, with noise on each score, and counts the regret of the best."""

    def __init__(self, world: World, noise: float, seed: int) -> None:
        self.world, self._noise = world, noise
        self._random = np.random.default_rng([seed, 7])
        self.names = [f"t{place}" for place in range(len(world.ceilings))]
        self.tried: list[Tried] = []

    def run(self, shares: Array) -> float:
        """Try a mixture; give the mean score that was seen."""
        found = self.world.scores(shares) + self._noise * self._random.normal(size=len(shares))
        named = (dict(zip(self.names, map(float, own), strict=True)) for own in (shares, found))
        self.tried.append(Tried(*named))
        return float(found.mean())

    def regret(self, shares: Array) -> float:
        """Give how far the true mean score of a mixture is below the best there is."""
        return self.world.best() - float(self.world.scores(shares).mean())


def surrogate(trials: Trials, count: int, seed: int) -> Array:
    """Search with so many trials; give the mixture that is recommended."""
    search = Surrogate(trials.names, seed=seed)
    while len(trials.tried) < count and (wanted := search.suggest(trials.tried)) is not None:
        trials.run(np.array([wanted[name] for name in trials.names]))
    best = search.fit(trials.tried).tried
    return np.array([best[name] for name in trials.names])


def random(trials: Trials, count: int, seed: int) -> Array:
    """Search at random; give the mixture whose score was best."""
    draws = np.random.default_rng([seed, 1]).dirichlet(np.ones(len(trials.names)), count)
    seen = [trials.run(own) for own in draws]
    best: Array = draws[int(np.argmax(seen))]
    return best
