"""Population based training (Jaderberg et al. 2017): settings that change while weights learn.

All members train from evaluation to evaluation. At each, the worst quarter takes over weights and
settings of one of the best quarter, and moves these settings. Every choice is a pure function of
the seed and of scores that are on record, so a population that was killed goes on where it was and
ends as it would have: Tune's own scheduler of this kind draws from Python's global random state,
and would begin again.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator import keyed
from orchestrator.experiment import Experiment
from orchestrator.studies import points
from orchestrator.studies.agenda import Agenda, Wanted
from orchestrator.studies.points import Changes, Ranges
from orchestrator.studies.study import Asked, Result, Study
from orchestrator.studies.trial import SCRATCH
from orchestrator.studies.trials import Trials

QUARTER = 4
"""One member in so many is replaced, and one in so many is worth a copy."""
SHIFT = 0.2
"""By which a setting moves in the unit cube, up or down."""
ANEW = 0.25
"""Probability that a setting is drawn anew instead."""
KEPT = ("regularization.ema", "regularization.reinit_layers")
"""What cannot change within a run: it goes with the weights from member to member."""


def refused(
    space: Ranges | Changes, base: Experiment, count: int, search: str, objective: str | None
) -> str | None:
    """Say why a population cannot search this space, or not so, if that is the case."""
    own = base.train
    if search != "random":
        return f"first settings are drawn at random; expected no --search {search}"
    if objective is not None:
        return f"members compare by the experiment's score; expected no --objective {objective}"
    if not isinstance(space, Mapping):
        return "the space is a list of changes; expected ranges of weights and strengths"
    if wrong := [key for key, (kind, *_) in space.items() if kind != "fixed" and not _moves(key)]:
        return (
            f"the space varies {', '.join(wrong)}, which a run has from its first step to its "
            f"last; expected weights of tasks, strengths of regularization and settings of "
            f"optimizers, such as --space regularization or --space mixture:weights"
        )
    if count < QUARTER:
        return f"--trials is {count}; expected {QUARTER} members or more, one of whom is replaced"
    if base.stages != "joint":
        return "the experiment has stages of its own; expected one stretch: stages=joint"
    if own.patience is not None:
        return "members are compared at the same step; expected no train.patience"
    if own.evaluate_every >= own.steps:
        return (
            f"members are compared at evaluations, and with train.evaluate_every at "
            f"{own.evaluate_every} there is none before the last of {own.steps} steps"
        )
    return None


def _moves(key: str) -> bool:
    if key.startswith("tasks."):
        return key.endswith(".weight") or ".optimizer." in key
    return key.startswith(("regularization.", "optimizer."))


@dataclass(frozen=True, eq=False)
class Member:
    """One member in one generation."""

    number: int
    point: Mapping[str, float]
    parent: str = ""
    """The hash of the part that it goes on from."""


class Population(Agenda):
    """Gives the parts of all members, generation after generation; the last parts are trials."""

    def __init__(
        self,
        study: Study,
        trials: Trials,
        space: Ranges | Changes,
        count: int,
        baseline: Wanted,
        tell: Callable[[Asked, Result, bool], None] = lambda asked, result, reused: None,
        **rest: Any,
    ) -> None:
        """``count`` members; the baseline is trained beside them, whole."""
        super().__init__(study, trials, tell=self._heard, **rest)
        self._space, self._hearer = space, tell
        self._first, self._generation = [baseline], 1
        self._members = [Member(n, self._drawn(n)) for n in range(1, count + 1)]
        self._left = list(self._members)
        self._ends: dict[str, Result] = {}
        """Of this generation, by arm."""
        self._before: set[str] = set()
        """Hashes of the generation before."""

    def next(self) -> Path | None:
        """As ``Listed.next``; None while members wait for each other."""
        while True:
            folder = None
            if self._first:
                folder = self.take(self._first.pop())
            elif self._left:
                folder = self.take(self._wanted(self._left.pop(0)))
            elif len(self._ends) < len(self._members):
                return None
            else:
                self._breed()
            if folder is not None:
                return folder

    def _heard(self, asked: Asked, result: Result, reused: bool) -> None:
        if asked.parent is not None:
            self._ends[asked.arm] = result
        self._hearer(asked, result, reused)

    def _arm(self, member: Member) -> str:
        name = f"{member.number:03d}"
        return name if self._last else f"{name}, part {self._generation}"

    @property
    def _last(self) -> bool:
        return self._generation == generations(self.trials.base)

    def _wanted(self, member: Member) -> Wanted:
        changes = points.changes(self._space, member.point)
        return Wanted(
            self._arm(member),
            "arm" if self._last else "part",
            changes,
            self.trials.base.train.seed,
            member.point,
            member.parent,
        )

    def _breed(self) -> None:
        """Go on to the next generation. Raises ``StopIteration`` after the last."""
        ends = {member: self._ends[self._arm(member)] for member in self._members}
        hashes = {result.hash for result in ends.values()}
        alive = [member for member, result in ends.items() if result.status != "failed"]
        if not self._last or len(alive) == len(ends):  # a last part that failed is tried again
            self._forget(self._before)
        if self._last or not alive:
            raise StopIteration
        ranked = sorted(alive, key=lambda member: (-ends[member].curve[-1][1], member.number))
        few = len(self._members) // QUARTER
        kept, best = ranked[: len(self._members) - few], ranked[:few]
        self._members = [
            Member(own.number, own.point, ends[own].hash)
            if own in kept
            else self._copied(own.number, best, ends)
            for own in self._members
        ]
        self._generation += 1
        self._left, self._ends, self._before = list(self._members), {}, hashes

    def _copied(self, number: int, best: Sequence[Member], ends: Mapping[Member, Result]) -> Member:
        """Take over weights and settings of one of the best, and move the settings."""
        random = self._random(self._generation, number)
        parent = best[int(random.integers(len(best)))]
        point = dict(parent.point)
        for name in points.dimensions(self._space):
            again, fresh, up = random.random(3).tolist()
            if name not in KEPT:
                moved = point[name] + (SHIFT if up < 0.5 else -SHIFT)
                point[name] = fresh if again < ANEW else min(1.0, max(0.0, moved))
        return Member(number, point, ends[parent].hash)

    def _drawn(self, number: int) -> dict[str, float]:
        """Draw a member's first settings."""
        names = points.dimensions(self._space)
        return dict(zip(names, self._random(0, number).random(len(names)).tolist(), strict=True))

    def _random(self, generation: int, number: int) -> np.random.Generator:
        return keyed.generator(self.trials.base.train.seed, "population", generation, number)

    def _forget(self, hashes: set[str]) -> None:
        """Remove weights that nobody will go on from."""
        for digest in hashes:
            shutil.rmtree(self.study.trial(digest) / SCRATCH, ignore_errors=True)


def generations(base: Experiment) -> int:
    """Count the evaluations of a run."""
    return math.ceil(base.train.steps / base.train.evaluate_every)


def weights(count: int, parameters: int) -> int:
    """Bound the bytes of the weights that members hand over.

    Two generations have the newest and the best weights each, with two moments and an average.
    """
    return count * 2 * 2 * parameters * 4 * 4
