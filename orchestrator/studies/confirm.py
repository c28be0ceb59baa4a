"""The winner of a study against its baseline, on seeds that the study never saw.

Each run is one as ``tlmt train`` makes it, through Ray Train and DeepSpeed, with the workers that
the experiment names. Only these runs' test scores are told: those that chose the winner are biased
upwards by the choice.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator import identity, run
from orchestrator.access import held, secure_ray
from orchestrator.journal import replace_text
from orchestrator.studies import findings, page, searching, statistics
from orchestrator.studies.driver import How, agenda_of, trials_of
from orchestrator.studies.evidence import Evidence, Measure
from orchestrator.studies.population import Population
from orchestrator.studies.proposals import Known, Mixtures, Search
from orchestrator.studies.study import Asked, Study
from orchestrator.studies.trials import Trials

FILE = "confirm.json"
FOLDER = "confirm"
DRAWS = 10_000
"""Of the interval's bootstrap over seeds."""


@dataclass(frozen=True)
class Confirmed:
    """What came out, as plain data."""

    winner: str
    baseline: str
    metric: str
    seeds: list[int]
    scores: dict[str, list[float]]
    """Arm to test scores, by seed."""
    difference: dict[str, float]
    """``mean``, ``low`` and ``high`` (95 %, bootstrap over seeds), ``p`` (exact sign flips)."""
    runs: dict[str, list[str]]
    """Arm to the folders of its runs, by seed."""

    @property
    def sentence(self) -> str:
        """Say it in one sentence."""
        own, several = self.difference, len(self.seeds)
        told = (
            f"On {several} fresh seeds {self.winner} scores {own['mean']:+.4f} "
            f"[{own['low']:+.4f}, {own['high']:+.4f}] against {self.baseline} in {self.metric} on "
            f"test"
        )
        if several < statistics.FEWEST:
            return f"{told}; nothing is called significant below {statistics.FEWEST} seeds."
        real = own["p"] < 0.05 and own["mean"] > 0
        word = "it is better" if real else "it is not shown to be better"
        return f"{told} (p = {own['p']:.4f}): {word}."


def winner(own: Study, wanted: str | None, search: Search | None, view: Sequence[Known]) -> str:
    """Give the arm to confirm: the one that is named, or the best on validation.

    Where a surrogate searched, it is the one that it recommends. Raises ``ValueError`` where it
    recommends none, and where no arm is better than the baseline.
    """
    arms = {asked.arm: asked for asked in own.asked if asked.kind != "control"}
    if wanted is not None:
        if wanted not in arms:
            raise ValueError(f"--arm is {wanted!r}; the study has {', '.join(arms)}.")
        return wanted
    means = _means(own)
    if isinstance(search, Mixtures):
        found = search.fit(view)
        if not found.trusted:
            raise ValueError(
                f"The surrogate foretells trials it has not seen with a rank correlation of "
                f"{found.correlation:.2f}, below .5: it recommends nothing. Run more trials, or "
                f"name an arm: --arm NAME."
            )
        for one in own.asked:
            shares = one.changes.get("mixture.shares", {})
            if shares and all(abs(shares[t] - s) < 1e-6 for t, s in found.tried.items()):
                return one.arm
    asked = own.question
    if asked.get("objective") not in (None, "target" if asked.get("target") else "mean"):
        raise ValueError(
            f"The search went by {asked['objective']}, and runs are compared by {asked['metric']}: "
            f"the best by one need not be it by the other. Name an arm: --arm NAME."
        )
    baseline = asked["baseline"]
    best = max(means, key=lambda arm: means[arm], default=None)
    if best is None or best == baseline:
        raise ValueError(
            f"No arm has a better mean on validation than the baseline, {baseline}: there is "
            f"nothing to confirm. Name an arm to compare all the same: --arm NAME."
        )
    return best


def against(own: Study, arm: str) -> tuple[str, Measure]:
    """Give what an arm is compared with, and by what score.

    That is the study's baseline, or, where this is about another task, the arm that was declared.
    """
    evidence, baseline = Evidence(own), str(own.question["baseline"])
    others = [other for one, other in own.question.get("comparisons") or () if one == arm]
    for other in (baseline, *others):
        measure = evidence.common(arm, other)
        if measure is not None:
            return other, measure
    raise ValueError(
        f"{arm!r} and the baseline {baseline!r} have no score in common: there is nothing to "
        f"compare. Name another arm: --arm NAME."
    )


def _means(own: Study) -> dict[str, float]:
    """Give the mean score on validation of each arm that has the baseline's, and is no control."""
    evidence, baseline = Evidence(own), str(own.question["baseline"])
    results, found = own.results(), dict[str, list[float]]()
    for asked in own.asked:
        if evidence.common(asked.arm, baseline) is None:
            continue
        result = results.get(asked.hash)
        fine = result is not None and result.status == "finished" and result.score is not None
        if fine and result is not None and asked.kind != "control":
            found.setdefault(asked.arm, []).append(float(result.score or 0.0))
    return {arm: float(np.mean(values)) for arm, values in found.items()}


def confirm(
    own: Study, trials: Trials, best: str, count: int, tell: Callable[[str], None]
) -> Confirmed:
    """Run both arms on fresh seeds; runs that are done are read, those interrupted go on.

    Raises ``RuntimeError`` if a run fails.
    """
    arms = {asked.arm: asked for asked in own.asked}
    baseline, measure = against(own, best)
    first = fresh(own, best)
    seeds = list(range(first, first + count))
    own.opened("confirm", arm=best, seeds=seeds)
    scores: dict[str, list[float]] = {best: [], baseline: []}
    runs: dict[str, list[str]] = {best: [], baseline: []}
    for seed in seeds:
        for arm in scores:
            folder = _trained(own, trials, arms[arm], seed)
            results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
            scores[arm].append(_score(own, results, measure))
            runs[arm].append(str(folder))
            tell(f"{arm}, seed {seed}: {scores[arm][-1]:.4f} on test")
    differences = np.array(scores[best]) - np.array(scores[baseline])
    draws = np.random.default_rng(0).integers(0, count, (DRAWS, count))
    low, high = statistics.interval(differences[draws].mean(1))
    found = Confirmed(
        best,
        baseline,
        Evidence(own).label(measure),
        seeds,
        scores,
        {
            "mean": float(differences.mean()),
            "low": low,
            "high": high,
            "p": statistics.sign_flip(differences.tolist()),
        },
        runs,
    )
    document = {**vars(found), "sentence": found.sentence}
    replace_text(own.folder / FILE, json.dumps(document, indent=1))
    return found


def _trained(own: Study, trials: Trials, asked: Asked, seed: int) -> Path:
    """Train one arm on one seed to its end; give the run's folder."""
    planned = trials.plan(asked.changes, seed)
    folder = own.folder / FOLDER / planned.hash[:16]
    if not (folder / run.EXPERIMENT).is_file():
        prepared = planned.prepared.under(planned.experiment)
        contents = run.contents(planned.experiment, prepared)
        found = identity.ingredients(planned.experiment, contents)
        shutil.rmtree(folder, ignore_errors=True)  # what was left before it was whole
        run.lay_out(folder, planned.experiment, prepared, found)
    if not (folder / "results.json").is_file():
        run.train(folder, lambda records: None)
    return folder


def fresh(own: Study, arm: str) -> int:
    """Give the first seed that nothing has been chosen by.

    An arm has the same ones again, so that its runs go on; another arm has others: who asks for it
    knows what came out before.
    """
    past = [one for one in own.question["openings"] if "seeds" in one]
    for one in past:
        if one["arm"] == arm:
            return int(one["seeds"][0])
    used = [asked.seed for asked in own.asked]
    return 1 + max([*used, *(seed for one in past for seed in one["seeds"])])


def _score(own: Study, results: Mapping[str, Any], measure: Measure) -> float:
    """Give the score of a run on its test split."""
    return float(
        np.mean(
            [
                results["tasks"][task]["test"][measure.metric or own.prepared.family(task).main]
                for task in measure.tasks
            ]
        )
    )


def confirmed(folder: Path, arm: str | None, seeds: int, how: How) -> Confirmed:
    """Run the winner and the baseline of a study on fresh seeds, and register the winner's model.

    Raises ``ValueError`` where there is nothing to confirm, ``RuntimeError`` if a run fails.
    """
    secure_ray()
    from orchestrator import served
    from orchestrator.studies import tracking

    own = Study(folder)
    asked = own.question
    trials = trials_of(asked["experiment"], asked["origin"], asked["budget"], prepared=own.prepared)
    search, view = None, list[Known]()
    if asked["kind"] == "tune":
        agenda = agenda_of(own, trials, how)
        if isinstance(agenda, Population):
            raise ValueError(
                "The winner of a population is a schedule of settings, which no experiment has: "
                "there is no arm to train again. Write its settings into an experiment, and "
                "compare that: its page shows them, part by part."
            )
        search, view = searching.search(asked, trials), agenda.view()
    with held(folder, ".driver.lock"):
        best = winner(own, arm, search, view)
        found = confirm(own, trials, best, seeds, how.tell)
    best_run = Path(found.runs[best][0])
    if not (best_run / "model").is_dir():
        served.save(best_run)
    page.write(own, findings.find(own))
    tracking.StudyTracker(own).sync(now=True)
    tracking.champion(own, best_run)
    return found
