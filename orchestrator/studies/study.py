"""A study's folder: its question, its trials in the order they were asked for, their results.

    study.yaml       the question, and every opening of the sealed test items
    prepared.json    the families of the base experiment, bound to its data
    trials.jsonl     a line for each trial of each arm; two arms may share a trial
    trials/<hash>/   experiment.yaml, results.json, items-validation.parquet, items-test.parquet

Lines are only ever added, and files are written whole or not at all, so a study that was killed
goes on from its folder.
"""

from __future__ import annotations

import difflib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

from orchestrator.journal import replace_text
from orchestrator.prepare import Prepared

FILE = "study.yaml"
TRIALS = "trials.jsonl"
RESULTS = "results.json"

Kind = Literal["arm", "baseline", "control", "part"]
Status = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True)
class Asked:
    """One trial that a study asks for: an arm with a seed."""

    arm: str
    """A name that is stable over runs of the study, such as ``without topic``."""
    kind: Kind
    changes: Mapping[str, Any]
    """Dotted settings in which the arm differs from the study's experiment as written."""
    seed: int
    hash: str
    """Names the trial's folder: all that changes its result (see ``identity.py``)."""
    point: Mapping[str, float] = field(default_factory=dict)
    """Where a search found the changes in its unit cube."""
    parent: str | None = None
    """Where a trial has parts: the hash of the one before; empty for the first."""


@dataclass(frozen=True)
class Result:
    """What became of a trial. Nothing in it comes from test rows."""

    hash: str
    status: Status
    """``stopped``: it was ended before its last step, so it never counts as finished."""
    seed: int
    error: str | None = None
    """Why it failed."""
    steps: int = 0
    best_step: int | None = None
    score: float | None = None
    """On validation at the best step: what arms are compared by; more is better."""
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Task to metric to value on validation, at the best step."""
    curve: list[tuple[int, float]] = field(default_factory=list)
    """Step and score of every evaluation."""
    examples_seen: Mapping[str, int] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    """Of the examples seen, sum 1."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """Every strength, weight and rate as it was, by dotted name."""
    drift: float = 0.0
    """How far the encoder went from its first weights, as a part of their norm."""
    seconds: float = 0.0
    """From the trial's beginning to its end."""


class Study:
    """One study's folder, read and added to."""

    def __init__(self, folder: Path) -> None:
        """Raises ``LookupError`` if the folder holds no study."""
        self.folder = folder.resolve()  # processes elsewhere find it too
        if not (folder / FILE).is_file():
            raise LookupError(f"{folder} holds no {FILE}; 'tlmt tune' and 'tlmt ablate' make one.")

    @property
    def question(self) -> dict[str, Any]:
        """What was asked.

        name, kind (tune, ablate), what (space or design), origin (the experiment's file),
        experiment (as written), target, metric (``task/metric``, or ``mean``), seeds, budget
        (steps, target), baseline (the arm that others are compared with), comparisons (declared
        pairs of arms), openings (of test items: time and by), and for tune: search, scheduler,
        trials, objective.
        """
        found: dict[str, Any] = yaml.safe_load((self.folder / FILE).read_text(encoding="utf-8"))
        return found

    @cached_property
    def prepared(self) -> Prepared:
        """The data of the base experiment."""
        return Prepared.read(self.folder)

    @property
    def asked(self) -> list[Asked]:
        """All trials so far, in the order they were asked for."""
        return [own for own in self.lines() if own.kind != "part"]

    @property
    def parts(self) -> list[Asked]:
        """All parts of trials but the last ones, which are ``asked`` (see ``population.py``)."""
        return [own for own in self.lines() if own.kind == "part"]

    def lines(self) -> list[Asked]:
        """Read all that was asked for."""
        path = self.folder / TRIALS
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [Asked(**one) for one in _whole(lines)]

    def ask(self, trial: Asked) -> None:
        """Add a trial."""
        path = self.folder / TRIALS
        before = path.read_bytes() if path.is_file() else b""
        broken = bool(before) and not before.endswith(b"\n")
        with path.open("a", encoding="utf-8") as file:
            file.write(("\n" if broken else "") + json.dumps(asdict(trial)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def trial(self, digest: str) -> Path:
        """Give the folder of a trial."""
        return self.folder / "trials" / digest

    def result(self, digest: str) -> Result | None:
        """Give what became of a trial, or None before its end."""
        return result(self.trial(digest))

    def results(self) -> dict[str, Result]:
        """Give what became of every trial that has ended, by hash."""
        found = {own.hash: self.result(own.hash) for own in self.asked}
        return {digest: own for digest, own in found.items() if own is not None}

    def failures(self) -> list[tuple[Asked, str]]:
        """Give the trials that failed, and parts of trials, with the reason."""
        ended = ((asked, self.result(asked.hash)) for asked in self.lines())
        return [(own, str(r.error)) for own, r in ended if r is not None and r.status == "failed"]

    def opened(self, by: str, **more: Any) -> None:
        """Record that the sealed test items are opened, or test scores of fresh runs told."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        question = self.question
        question["openings"] = [*question.get("openings", []), {"time": now, "by": by, **more}]
        replace_text(self.folder / FILE, yaml.safe_dump(question, sort_keys=False))


def create(folder: Path, question: Mapping[str, Any], prepared: Prepared) -> Study:
    """Make a study's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    prepared.write(folder)
    text = yaml.safe_dump({**question, "openings": []}, sort_keys=False, allow_unicode=True)
    replace_text(folder / FILE, text)
    return Study(folder)


def find(name: str, studies: Path) -> Path:
    """Find the folder of a study by its path or its name; raises ``LookupError``."""
    for folder in (Path(name), studies / name):
        if (folder / FILE).is_file():
            return folder.resolve()
    known = sorted(path.parent.name for path in studies.glob(f"*/{FILE}"))
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise LookupError(
        f"There is no study {name!r}: it is no folder with a {FILE}, and none of that name is in "
        f"{studies}.{hint} 'tlmt tune' and 'tlmt ablate' make one."
    )


def result(trial: Path) -> Result | None:
    """Read what became of the trial in a folder, or None before its end."""
    path = trial / RESULTS
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return Result(**{**found, "curve": [(int(step), score) for step, score in found["curve"]]})


def write(trial: Path, found: Result) -> None:
    """Write what became of a trial, last of all its files."""
    trial.mkdir(parents=True, exist_ok=True)
    replace_text(trial / RESULTS, json.dumps(asdict(found), indent=1))


def _whole(lines: list[str]) -> Iterator[dict[str, Any]]:
    """Read lines; a last one that was cut off by the end of its writer is none."""
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue
