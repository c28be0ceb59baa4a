"""What a search tries next: at random, by Optuna, or by the surrogate of mixtures.

A search remembers nothing of its own: what it says follows from its seed and the trials that were
asked for before, so one that was interrupted goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from orchestrator import keyed
from orchestrator.studies import points
from orchestrator.studies.laws import Array
from orchestrator.studies.points import Changes, Ranges
from orchestrator.studies.surrogate import Fit, Surrogate, Tried

NAMES = ("random", "optuna", "surrogate")
SHARES = "mixture.shares"
OBJECTIVES = ("target", "mean", "worst")
WAIT = "wait"
"""Nothing can be said before more trials have ended."""


@dataclass(frozen=True)
class Known:
    """A trial that was asked for."""

    changes: Mapping[str, Any]
    point: Mapping[str, float]
    scores: Mapping[str, float] | None
    """Each task's main score; None while it is running, and where it has none."""
    shares: Mapping[str, float]
    """Of the examples, as they came out; empty while it is running."""
    running: bool = False


@dataclass(frozen=True)
class Proposal:
    """What to try next."""

    changes: Mapping[str, Any]
    """Dotted settings to values."""
    point: Mapping[str, float] = field(default_factory=dict)
    """Where they lie in the unit cube, for searches that walk in it."""


LEAST = 4
"""Trials with scores that a fit needs."""

Objective = Callable[[Array], Array]
"""From scores ``[..., tasks]`` to ``[...]``, more is better."""


def objective(name: str, tasks: Sequence[str], target: str | None) -> Objective:
    """Give an objective by its name: one of ``OBJECTIVES``, or weights (``a=2,b=1``).

    Raises ``ValueError`` for any other, and for ``target`` where there is none.
    """
    if name == "target":
        if target is None:
            raise ValueError("the objective is the target's score, and the experiment names none")
        place = list(tasks).index(target)
        return lambda scores: scores[..., place]
    if name == "mean":
        return lambda scores: scores.mean(-1)
    if name == "worst":
        return lambda scores: scores.min(-1)
    weights = _weights(name, tasks)
    return lambda scores: scores @ weights


def _weights(written: str, tasks: Sequence[str]) -> Array:
    found = dict.fromkeys(tasks, 0.0)
    for part in written.split(","):
        task, _, value = part.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if task not in found or not 0 <= number < float("inf"):
            raise ValueError(
                f"the objective is {written!r}; expected {', '.join(OBJECTIVES)}, or weights such "
                f"as {tasks[0]}=2 joined by commas, of the tasks {', '.join(tasks)}"
            )
        found[task] = number
    total = sum(found.values())
    if not total:
        raise ValueError(f"the objective {written!r} weighs no task; expected one above 0")
    return np.array([found[task] / total for task in tasks])


class Search(Protocol):
    """Proposes changes of an experiment, dotted settings to values."""

    def propose(self, known: Sequence[Known]) -> Proposal | str | None:
        """Give what to try next, ``WAIT``, or None when no more is to be gained."""


@dataclass(frozen=True)
class Random:
    """Independent points: the n-th is a pure function of seed and n."""

    space: Ranges | Changes
    seed: int

    def propose(self, known: Sequence[Known]) -> Proposal:
        if not isinstance(self.space, Mapping):  # a list: all of it in turn, before any twice
            return Proposal(dict(self.space[len(known) % len(self.space)]))
        random = keyed.generator(self.seed, "search", len(known))
        names = points.dimensions(self.space)
        point = dict(zip(names, random.random(len(names)).tolist(), strict=True))
        return Proposal(points.changes(self.space, point), point)


@dataclass(frozen=True)
class Optuna:
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), over the unit cube."""

    space: Ranges | Changes
    seed: int
    tasks: Sequence[str]
    value: Objective

    def propose(self, known: Sequence[Known]) -> Proposal:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        cube = self._cube()
        sampler = optuna.samplers.TPESampler(seed=keyed.number(self.seed, len(known)) >> 33)
        own = optuna.create_study(direction="maximize", sampler=sampler)
        for one in known:
            if one.scores and one.point:
                scores = np.array([one.scores.get(task, 0.0) for task in self.tasks])
                own.add_trial(
                    optuna.trial.create_trial(
                        params=dict(one.point),
                        distributions=cube,
                        value=float(self.value(scores)),
                        state=optuna.trial.TrialState.COMPLETE,
                    )
                )
        point = dict(own.ask(cube).params)
        return Proposal(points.changes(self.space, point), point)

    def _cube(self) -> dict[str, Any]:
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        if isinstance(self.space, Mapping):
            return {name: FloatDistribution(0.0, 1.0) for name in points.dimensions(self.space)}
        count = len(self.space)
        return {points.LIST: CategoricalDistribution([(i + 0.5) / count for i in range(count)])}


@dataclass(frozen=True)
class Mixtures:
    """The surrogate of mixtures (see ``surrogate.py``)."""

    model: Surrogate
    others: Mapping[str, Any]
    """What else the space changes, the same in all trials."""
    earlier: Sequence[Tried] = ()
    """Trials of earlier studies."""

    def propose(self, known: Sequence[Known]) -> Proposal | str | None:
        tried = [*self.earlier, *tries(known)]
        wanted = self.model.untried([one.shares for one in tried], self.earlier)
        if wanted is None:
            scored = sum(bool(one.scores) for one in tried)
            if scored < len(self.model.design()) and any(one.running for one in known):
                return WAIT
            if scored < LEAST:
                return None
            wanted = self.model.suggest(tried)
        return None if wanted is None else Proposal({**self.others, SHARES: wanted})

    def fit(self, known: Sequence[Known]) -> Fit:
        """Say what the trials so far say."""
        return self.model.fit([*self.earlier, *tries(known)])


def tries(known: Sequence[Known]) -> list[Tried]:
    """Give the surrogate's view of trials, those that are running among them, without scores."""
    return [
        Tried(one.changes.get(SHARES) or one.shares, one.scores or {})
        for one in known
        if one.changes.get(SHARES) or one.shares
    ]


def mixtures(
    space: Ranges | Changes,
    tasks: Sequence[str],
    value: Objective,
    caps: Mapping[str, float],
    seed: int,
    earlier: Sequence[Tried] = (),
) -> Mixtures:
    """Make the surrogate's search. Raises ``ValueError`` if anything but shares is varied."""
    own = space if isinstance(space, Mapping) else {}
    varied = {key: kind for key, (kind, *_) in own.items() if kind != "fixed"}
    if varied != {SHARES: "simplex"}:
        raise ValueError(
            f"the surrogate searches {SHARES} alone, and the space varies "
            f"{', '.join(varied) or 'a list of changes'}. Use --space mixture, or another search: "
            f"--search random or optuna."
        )
    others = {key: given[1] for key, given in own.items() if given[0] == "fixed"}
    return Mixtures(Surrogate(tasks, value, dict(caps), seed), others, tuple(earlier))
