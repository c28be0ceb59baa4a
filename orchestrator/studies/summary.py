"""What a study tells of its trials and arms, as plain data for MLflow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import numpy as np

from orchestrator.studies.statistics import DRAWS, interval
from orchestrator.studies.study import RESULTS, Asked, Result, Study
from orchestrator.summary import flattened

STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
"""What the end of a trial means to MLflow."""
GROWING = ("seeds", "trials", "comparisons", "openings")
"""What of a question may change while its study goes on."""
NOTE = """{kind} `{what}` of `{origin}`, by {metric}.

* [Arms, the best mean first]({arms})
* [Trials, the best first]({trials}), and [charts of those that finished]({charts})
"""
"""What MLflow shows of a study first: where to go on."""
KINDS = {"tune": "A search in the space", "ablate": "An ablation by the design"}


@dataclass(frozen=True)
class Ended:
    """A trial that has ended."""

    digest: str
    """Of ``results.json``."""
    stamp: tuple[int, int]
    """Size of that file and when it was written, in nanoseconds since 1970."""
    result: Result

    @property
    def moment(self) -> int:
        """When it ended, in milliseconds since 1970."""
        return self.stamp[1] // 1_000_000

    @property
    def start(self) -> int:
        """When it began, likewise."""
        return self.moment - int(1000 * self.result.seconds)

    def at_best(self) -> dict[str, float]:
        """Give the best step, and the scores on validation there by ``task/validation/metric``."""
        own = self.result
        found = {
            f"{task}/validation/{metric}": value
            for task, scores in own.scores.items()
            for metric, value in scores.items()
        }
        if own.score is not None:
            found["score"] = own.score
        if own.best_step is not None:
            found["best_step"] = own.best_step
        return found

    def at_end(self) -> dict[str, float]:
        """Give what it was made with, as it was, and what it took."""
        own = self.result
        return {
            **own.settings,
            **{f"share/{task}": share for task, share in own.shares.items()},
            **{f"examples/{task}": seen for task, seen in own.examples_seen.items()},
            **({"drift": own.drift} if own.steps else {}),
            "seconds": own.seconds,
        }

    def values(self) -> Iterator[tuple[str, float, int, int]]:
        """Give each number's key, value, time in milliseconds and step; none is of test rows.

        All but the curve are at step 0, which MLflow draws as bars, and not as lines of one point.
        """
        for key, value in {**self.at_best(), **self.at_end()}.items():
            yield key, value, self.moment, 0
        for step, score in self.result.curve:
            passed = (self.moment - self.start) * step // max(1, self.result.steps)
            yield "score_curve", score, self.start + passed, step


class Trials:
    """The trials of a study that have ended; a file is read again only if it changed."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._known: dict[str, Ended] = {}

    def ended(self, asked: Sequence[Asked]) -> dict[str, Ended]:
        """Give those that have ended, by hash."""
        found = {own.hash: self._read(own.hash) for own in asked}
        return {own: ended for own, ended in found.items() if ended is not None}

    def _read(self, own: str) -> Ended | None:
        path = self.study.trial(own) / RESULTS
        if not path.is_file():
            return None
        stamp = (path.stat().st_size, path.stat().st_mtime_ns)
        if own not in self._known or self._known[own].stamp != stamp:
            result = self.study.result(own)
            assert result is not None
            self._known[own] = Ended(digest(path.read_text(encoding="utf-8")), stamp, result)
        return self._known[own]


def digest(text: str) -> str:
    """Tell texts apart by 16 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity(name: str, question: Mapping[str, Any]) -> str:
    """Tell a study from another that had its name: a digest of what was asked of what."""
    settings = dict(question["experiment"])
    for key in ("tracking", "storage"):
        settings.pop(key, None)
    asked = [name, question.get("kind"), question.get("what"), settings]
    return digest(json.dumps(asked, sort_keys=True, default=str))


def parts(question: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Give the question as parameters, which stay, and as tags, which may change."""
    fixed = {key: own for key, own in question.items() if key not in GROWING}
    tags = {f"tlmt.{key}": json.dumps(question[key]) for key in GROWING if question.get(key)}
    return dict(flattened(fixed)), tags


def note(name: str, question: Mapping[str, Any], experiment: str) -> str:
    """Say in Markdown what a study asks, with links to MLflow's own views of it."""
    named = {key: question.get(key) for key in ("what", "origin", "metric")}
    own, trial = f"tags.tlmt.study = '{name}' and ", "tags.tlmt.stage = 'trial'"
    return NOTE.format(
        **named,
        kind=KINDS.get(question["kind"], question["kind"]),
        arms=_view(experiment, f"{own}tags.tlmt.stage = 'arm'", "mean", "TABLE"),
        trials=_view(experiment, f"{own}{trial}", "score", "TABLE"),
        charts=_view(experiment, f"{own}{trial} and status = 'FINISHED'", "score", "CHART"),
    )


def _view(experiment: str, search: str, metric: str, mode: str) -> str:
    """Give the address of a list of runs inside MLflow's pages."""
    chosen = {
        "searchFilter": search,
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": "false",
        "compareRunsMode": mode,
    }
    return f"#/experiments/{experiment}/runs?{urlencode(chosen)}"


def status(done: Sequence[Ended], asked: int) -> str:
    """Say what became of an arm, or a study, of which so many trials are asked for."""
    if not done or len(done) < asked:
        return "RUNNING"
    return "FAILED" if {own.result.status for own in done} == {"failed"} else "FINISHED"


def tally(done: Sequence[Ended]) -> dict[str, float]:
    """Count trials by what became of them."""
    states = [own.result.status for own in done]
    return {f"trials/{state}": sum(own == state for own in states) for state in STATUS}


def spread(done: Sequence[Ended]) -> dict[str, float]:
    """Give mean, standard deviation and 95 % bootstrap interval of the scores of an arm's seeds.

    Only finished trials count. A single one has a mean and no spread.
    """
    own = [one.result.score for one in done if one.result.status == "finished"]
    scores = np.array([score for score in own if score is not None], np.float64)
    if len(scores) < 2:
        return {"mean": float(scores[0])} if len(scores) else {}
    drawn = np.random.default_rng(0).choice(scores, (DRAWS, len(scores))).mean(axis=1)
    low, high = interval(drawn)
    return {"mean": float(scores.mean()), "low": low, "high": high, "sd": float(scores.std(ddof=1))}
