"""Synthetic studies: folders as searches and ablations leave them, without any training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.prepare import Prepared
from orchestrator.studies import sealed, study
from orchestrator.studies.sealed import Items
from orchestrator.studies.study import Asked, Result, Study
from orchestrator.studies.surrogate import Surrogate

ROWS = 200
"""Of each split; two make a group."""
EIGHT = tuple(range(8))

Changes = Mapping[str, Any]
Arms = Mapping[str, tuple[str, Changes]]
Score = Callable[[Asked, str], float]
"""What a trial scores on a task."""


def prepared(tiny: Prepared, *names: str) -> Prepared:
    """Give the tiny experiment's data tasks of these names, all of them kinds of sentiment."""
    own = tiny.tasks["sentiment"]
    return tiny.model_copy(update={"tasks": dict.fromkeys(names, own)})


def make(folder: Path, data: Prepared, **question: Any) -> Study:
    """Make a study without trials."""
    names = list(data.tasks)
    return study.create(
        folder,
        {
            "name": "seed-tasks",
            "kind": "ablate",
            "what": "leave-one-out",
            "origin": "experiments/seed-tasks.yaml",
            "experiment": {"name": "seed-tasks", "tasks": {name: {} for name in names}},
            "target": names[0],
            "metric": f"{names[0]}/accuracy",
            "seeds": list(EIGHT),
            "budget": "target",
            "baseline": "all",
            "comparisons": [],
            **question,
        },
        data,
    )


def ask(found: Study, arm: str, seed: int, changes: Changes = {}, kind: Any = "arm") -> Asked:  # noqa: B006
    """Ask for a trial; its hash follows from changes and seed."""
    text = json.dumps([dict(changes), seed], sort_keys=True)
    own = Asked(arm, kind, dict(changes), seed, hashlib.sha256(text.encode()).hexdigest()[:16])
    found.ask(own)
    return own


def items(score: float, seed: int = 0) -> Items:
    """Make rows whose share of hits is as near to the score as rows can come."""
    hits = np.zeros(ROWS)
    order = np.random.default_rng(seed).permutation(ROWS)
    hits[order[: round(score * ROWS)]] = 1.0
    return Items(np.arange(ROWS), np.arange(ROWS) // 2, np.stack([hits, np.ones(ROWS)], axis=1))


def finish(found: Study, own: Asked, scores: Mapping[str, float], **known: Any) -> Result:
    """Write a finished trial: scores rounded to whole rows; on test each is two rows better."""
    rows = {task: round(min(0.99, max(0, s)) * ROWS) / ROWS for task, s in scores.items()}
    folder = found.trial(own.hash)
    task = str(found.question["metric"]).partition("/")[0]
    seen = dict.fromkeys(rows, 400)
    result = Result(
        hash=own.hash,
        status="finished",
        seed=own.seed,
        steps=200,
        best_step=180,
        score=rows.get(task, float(np.mean(list(rows.values())))),
        scores={name: {"accuracy": value, "loss": 1 - value} for name, value in rows.items()},
        curve=[(100, 0.5), (180, 0.6), (200, 0.55)],
        examples_seen=seen,
        shares={name: 1 / len(rows) for name in rows},
        settings={"regularization.dropout": 0.1, "optimizer.lr": 5e-5},
        drift=0.04,
        seconds=12.0 + own.seed,
    )
    result = Result(**{**vars(result), **known})
    folder.mkdir(parents=True, exist_ok=True)
    sealed.write(folder, "validation", {t: items(v, own.seed) for t, v in rows.items()})
    sealed.write(folder, "test", {t: items(v + 2 / ROWS, own.seed) for t, v in rows.items()})
    study.write(folder, result)
    return result


def rescored(found: Study, own: Asked, scores: Mapping[str, float]) -> None:
    """Give a finished trial other main scores."""
    result = found.result(own.hash)
    assert result is not None
    every = {task: {"accuracy": value} for task, value in scores.items()}
    study.write(found.trial(own.hash), Result(**{**vars(result), "scores": every}))


def fail(found: Study, own: Asked, reason: str, status: Any = "failed") -> None:
    """Write a trial that did not come to its end."""
    error = reason if status == "failed" else None
    study.write(
        found.trial(own.hash), Result(own.hash, status, own.seed, error, steps=40, seconds=3.0)
    )


def ablation(
    folder: Path,
    data: Prepared,
    arms: Arms,
    score: Score,
    seeds: Sequence[int] = EIGHT,
    **question: Any,
) -> Study:
    """Make an ablation with all its trials finished."""
    found = make(folder, data, seeds=list(seeds), **question)
    for arm, (kind, changes) in arms.items():
        for seed in seeds:
            own = ask(found, arm, seed, changes, kind)
            out = [task for task in data.tasks if changes.get(f"tasks.{task}", 1) is None]
            scores = {task: score(own, task) for task in data.tasks if task not in out}
            finish(found, own, scores)
    return found


def without(*names: str) -> dict[str, Any]:
    """Take tasks out."""
    return {f"tasks.{name}": None for name in names}


def noisy(level: float, seed: int, noise: float = 0.01) -> float:
    """Give a score near a level; paired arms share half of the seed's noise."""
    own = np.random.default_rng([seed, round(level * 1e6)]).normal(0, noise)
    shared = np.random.default_rng(seed).normal(0, noise)
    return float(np.clip(level + own + shared, 0, 1))


def pairs(folder: Path, data: Prepared, seeds: Sequence[int] = EIGHT, **question: Any) -> Study:
    """Make a transfer matrix: the second task helps the first, the last harms it."""
    names = list(data.tasks)
    arms: dict[str, tuple[str, Changes]] = {}
    for target in names:
        others = [name for name in names if name != target]
        arms[f"{target} alone"] = ("baseline", without(*others))
        for helper in others:
            rest = [name for name in others if name != helper]
            arms[f"{target} + {helper}"] = ("arm", {**without(*rest), "target": target})

    def score(own: Asked, task: str) -> float:
        together = {name for name in names if f"tasks.{name}" not in own.changes}
        gain = 0.06 * (names[1] in together) - 0.05 * (names[-1] in together)
        return noisy(0.7 + (gain if task == names[0] else 0.0), own.seed)

    question = {"what": "pairs", "baseline": f"{names[0]} alone", **question}
    return ablation(folder, data, arms, score, seeds, **question)


def subsets(folder: Path, data: Prepared, seeds: Sequence[int] = EIGHT, **question: Any) -> Study:
    """Make all subsets of helpers: the first adds 0.04, the second takes 0.03, others nothing."""
    target, *helpers = data.tasks
    worth = dict(zip(helpers, (0.04, -0.03, *[0.0] * 9), strict=False))
    arms: dict[str, tuple[str, Changes]] = {}
    for place in range(2 ** len(helpers)):
        out = [name for i, name in enumerate(helpers) if not place >> i & 1]
        own = [name for name in helpers if name not in out]
        arms[" + ".join([target, *own]) if own else f"{target} alone"] = ("arm", without(*out))

    def score(own: Asked, task: str) -> float:
        gain = sum(v for name, v in worth.items() if f"tasks.{name}" not in own.changes)
        return noisy(0.7 + gain * (task == target), own.seed + 1000 * len(own.changes))

    question = {"what": "subsets", "baseline": f"{target} alone", **question}
    return ablation(folder, data, arms, score, seeds, **question)


def strengths(folder: Path, data: Prepared, seeds: Sequence[int] = EIGHT, **question: Any) -> Study:
    """Make curves of dropout, which is best at 0.2, and of L2-SP, which does nothing."""
    arms: dict[str, tuple[str, Changes]] = {"as written": ("baseline", {})}
    for value in (0.0, 0.05, 0.2, 0.3):
        arms[f"dropout {value}"] = ("arm", {"regularization.dropout": value})
    for value in (0.0, 0.01, 0.1, 1.0):
        arms[f"l2_sp {value}"] = ("arm", {"regularization.l2_sp": value})

    def score(own: Asked, task: str) -> float:
        value = own.changes.get("regularization.dropout", 0.1)
        return noisy(0.75 - 2 * (value - 0.2) ** 2, own.seed)

    question = {"what": "regularization", "baseline": "as written", **question}
    return ablation(folder, data, arms, score, seeds, **question)


def mixtures(
    folder: Path, data: Prepared, trials: int = 24, noise: float = 0.002, **question: Any
) -> Study:
    """Make a search of mixtures in which the first task wants much and the second a little."""
    names = list(data.tasks)
    known = {"kind": "tune", "what": "mixture", "search": "surrogate", "scheduler": "none"}
    rest = {"trials": trials, "objective": "target", "seeds": [0], "baseline": None}
    found = make(folder, data, **{**known, **rest, **question})
    design = Surrogate(names).design()
    random = np.random.default_rng(3)
    more = random.dirichlet(np.ones(len(names)), max(0, trials - len(design)))
    wanted = [*design, *(dict(zip(names, map(float, own), strict=True)) for own in more)]
    for place, shares in enumerate(wanted[:trials], 1):
        own = ask(found, f"trial {place}", place, {"mixture.shares": shares})
        roots = np.sqrt([shares[name] for name in names])
        slopes = np.array([0.3, 0.2, *[0.02] * (len(names) - 2)])
        scores = {
            name: float(
                0.4
                + slopes[0 if name == names[0] else 1 :] @ roots[0 if name == names[0] else 1 :]
                + random.normal(0, noise)
            )
            for name in names
        }
        finish(found, own, scores, shares=shares)
    return found
