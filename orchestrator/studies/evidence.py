"""What the finished trials of a study scored, by arm and seed: on validation, or once on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from orchestrator.studies import sealed, statistics
from orchestrator.studies.sealed import Items
from orchestrator.studies.statistics import Array
from orchestrator.studies.study import Asked, Result, Study
from tasks.family import Family

MEAN = "mean"
AGREE = 1e-4
"""How near the sum of a trial's items must come to its score to stand for it."""


@dataclass(frozen=True)
class Measure:
    """What arms are compared by: one score of a task, or the mean of several tasks' main scores."""

    tasks: tuple[str, ...]
    metric: str | None = None
    """None: the main score of each task."""


@dataclass(frozen=True)
class Draws:
    """Mean scores of arms, drawn anew with the same seeds and items for all of them."""

    values: Mapping[str, Array]
    """Arm to ``[draws]``."""
    items: bool
    """Whether items were drawn too, and not seeds alone."""


class Evidence:
    """All that is known of a study's trials; ``final`` opens their test items, and tells so."""

    def __init__(self, study: Study, final: bool = False) -> None:
        self.final = final
        self._study = study
        self._tests = sealed.opened(study, by="report --final") if final else {}
        self.question = study.question
        self.results = study.results()
        self.asked = list({(own.arm, own.seed, own.hash): own for own in study.asked}.values())
        """In the order they were asked for, each once."""
        self._items: dict[str, Mapping[str, Items]] = {}
        self._grouped: dict[tuple[str, str], Array] = {}
        self._draws: dict[tuple[Measure, tuple[int, ...]], Draws] = {}

    @cached_property
    def families(self) -> dict[str, Family[Any]]:
        """The tasks of the base experiment."""
        prepared = self._study.prepared
        return {task: prepared.family(task) for task in prepared.tasks}

    @cached_property
    def arms(self) -> dict[str, list[Asked]]:
        """Each arm's trials, arms in the order they were first asked for."""
        found: dict[str, list[Asked]] = {}
        for own in self.asked:
            found.setdefault(own.arm, []).append(own)
        return found

    def rows(self, task: str) -> int:
        """Give the number of a task's training rows."""
        return self._study.prepared.tasks[task].splits["train"].rows

    def tasks(self, arm: str) -> tuple[str, ...]:
        """List the tasks that an arm has: those it does not take out."""
        changes = self.arms[arm][0].changes if arm in self.arms else {}
        return tuple(
            t for t in self.families if f"tasks.{t}" not in changes or changes[f"tasks.{t}"]
        )

    def finished(self, arm: str) -> dict[int, Result]:
        """Give an arm's finished trials by seed, seeds rising."""
        ended = {own.seed: self.results.get(own.hash) for own in self.arms.get(arm, [])}
        return {
            seed: result
            for seed, result in sorted(ended.items())
            if result is not None and result.status == "finished"
        }

    def measure(self, arm: str) -> Measure | None:
        """Say what an arm is scored by; None if it lacks the task that the study is about."""
        task, _, metric = str(self.question.get("metric") or MEAN).partition("/")
        if self.pairs and (own := self.pair(arm)) is not None:
            return Measure(own[:1])
        if task == MEAN:
            return Measure(self.tasks(arm))
        if task not in self.tasks(arm):
            return None
        return Measure((task,), self._settled(task, metric))

    def common(self, arm: str, other: str) -> Measure | None:
        """Say what two arms are compared by; None if there is nothing that both are scored on."""
        first, second = self.measure(arm), self.measure(other)
        if first is None or second is None or first == second:
            return first if second is not None else None
        both = tuple(task for task in first.tasks if task in second.tasks)
        return Measure(both) if both else None

    def label(self, measure: Measure) -> str:
        """Write a measure as ``task/metric`` or as the mean of tasks."""
        if len(measure.tasks) == 1:
            task = measure.tasks[0]
            return f"{task}/{measure.metric or self.families[task].main}"
        return (
            "mean score"
            if len(measure.tasks) == len(self.families)
            else (f"mean score of {', '.join(measure.tasks)}")
        )

    @property
    def pairs(self) -> bool:
        """Whether the study is a matrix of tasks by helpers."""
        return bool(self.question.get("what") == "pairs")

    def pair(self, arm: str) -> tuple[str, ...] | None:
        """Read target and helper, if there is one, off the name of an arm of ``pairs``."""
        target, plus, helper = arm.partition(" + ")
        names = (target, helper) if plus else (arm.removesuffix(" alone"),)
        if set(names) != set(self.tasks(arm)) or (not plus and not arm.endswith(" alone")):
            return None
        return names

    def value(self, result: Result, measure: Measure) -> float | None:
        """Give what a trial scored, or None where that is not known."""
        values = [self._one(result, task, measure.metric) for task in measure.tasks]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known and len(known) == len(values) else None

    def values(self, arm: str, measure: Measure) -> dict[int, float]:
        """Give an arm's scores by seed."""
        found = {seed: self.value(own, measure) for seed, own in self.finished(arm).items()}
        return {seed: value for seed, value in found.items() if value is not None}

    def mains(self, result: Result) -> dict[str, float]:
        """Give the main score of each task of a trial."""
        found = {task: self._one(result, task, None) for task in self.families}
        return {task: value for task, value in found.items() if value is not None}

    def draws(self, measure: Measure, seeds: Sequence[int]) -> Draws:
        """Draw the mean scores of all arms that have these seeds and this measure."""
        key = measure, tuple(seeds)
        if key not in self._draws:
            arms = [
                arm
                for arm in self.arms
                if set(measure.tasks) <= set(self.tasks(arm))
                and set(seeds) <= self.values(arm, measure).keys()
            ]
            self._draws[key] = self._drawn(arms, measure, key[1])
        return self._draws[key]

    def _drawn(self, arms: list[str], measure: Measure, seeds: tuple[int, ...]) -> Draws:
        trials = [[self.finished(arm)[seed] for seed in seeds] for arm in arms]
        parts = _aligned([[self._parts(own, measure) for own in row] for row in trials])
        if parts is not None:
            whole = self.families[measure.tasks[0]].whole
            drawn, items = statistics.resampled(parts, whole), True
        else:
            scores = np.array([[self.value(own, measure) for own in row] for row in trials])
            random = np.random.default_rng(0)
            places = random.integers(0, len(seeds), (statistics.DRAWS, len(seeds)))
            drawn, items = scores.astype(np.float64)[:, places].mean(-1).T, False
        return Draws(dict(zip(arms, drawn.T, strict=True)), items)

    def _parts(self, result: Result, measure: Measure) -> Array | None:
        """Give ``[groups, n]`` of a trial's only task, or None where they do not make its score."""
        task = measure.tasks[0]
        if len(measure.tasks) > 1 or measure.metric not in (None, self.families[task].main):
            return None
        found = self._sums(result, task)
        score = self.value(result, measure)
        if found is None or score is None:
            return None
        return (
            found if abs(float(self.families[task].whole(found.sum(0))) - score) < AGREE else None
        )

    def _one(self, result: Result, task: str, metric: str | None) -> float | None:
        """Give one score of one task; on test that is its main score."""
        if self.final:
            found = self._sums(result, task)
            return None if found is None else float(self.families[task].whole(found.sum(0)))
        return result.scores.get(task, {}).get(metric or self.families[task].main)

    def _sums(self, result: Result, task: str) -> Array | None:
        """Give what each group of a split's rows adds to a task's main score."""
        digest = result.hash
        if digest not in self._items:
            self._items[digest] = self._tests.get(digest, {}) if self.final else self._seen(digest)
        if task not in self._items[digest]:
            return None
        key = digest, task
        if key not in self._grouped:
            self._grouped[key] = self._items[digest][task].grouped()
        return self._grouped[key]

    def _seen(self, digest: str) -> Mapping[str, Items]:
        try:
            return sealed.validation(self._study.trial(digest))
        except FileNotFoundError:  # no task's main score is made of its rows' parts
            return {}

    def _settled(self, task: str, metric: str) -> str | None:
        """Tell a task's main score from another; on test there is no other."""
        return None if self.final or metric in ("", self.families[task].main) else metric


def _aligned(parts: Sequence[Sequence[Array | None]]) -> Array | None:
    """Stack ``[arms, seeds, groups, n]``; None where arms do not have the same rows of a seed.

    Seeds may score different rows, so some have fewer groups: those get empty ones, which add
    nothing when they are drawn.
    """
    known = [[own for own in row if own is not None] for row in parts]
    shapes = {tuple(own.shape for own in row) for row in known}
    if len(shapes) != 1 or any(
        len(row) < len(given) for row, given in zip(known, parts, strict=True)
    ):
        return None
    most = max(len(own) for own in known[0])
    return np.array(
        [[np.pad(own, ((0, most - len(own)), (0, 0))) for own in row] for row in known], np.float64
    )
