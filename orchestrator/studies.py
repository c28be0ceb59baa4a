"""A study from the driver's side: asked, priced, run, and what came out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tune_spaces
from orchestrator import check, designs, document, points, price, proposals, study
from orchestrator.access import held, secure_ray
from orchestrator.agenda import Agenda, Listed, Searched, Wanted
from orchestrator.experiment import Experiment, ExperimentError, places
from orchestrator.study import Asked, Result, Study
from orchestrator.surrogate import Tried
from orchestrator.trials import Trials

WRITTEN = "as written"
"""The arm without changes."""


@dataclass(frozen=True)
class How:
    """How trials are run; nothing of it changes a result."""

    parallel: int | None = None
    """Trials at a time; None: as many as the cluster has room for."""
    scheduler: str = "none"
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)


def written(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Read an experiment as it is written, varied by ``key=value``; raises ``ExperimentError``."""
    tree, marks, problems = document.read(path)
    changed, wrong = document.changes(overrides)
    tree, impossible = document.varied(tree, changed)
    if found := [*problems, *wrong, *impossible]:
        raise ExperimentError(found, str(path), marks)
    return tree


def named(studies: Path, tree: Mapping[str, Any], kind: str, what: str) -> Path:
    """Give the folder of a study, which must be new. Raises ``ValueError``."""
    short = Path(what.partition(":")[0]).stem + what.partition(":")[2]
    folder = studies.resolve() / f"{tree['name']}-{kind}-{short}"
    if (folder / study.FILE).exists():
        raise ValueError(
            f"{folder} is a study already. Go on with it: tlmt {kind} --resume {folder}; or give "
            f"this one another name: name=..."
        )
    return folder


def trials_of(tree: Mapping[str, Any], path: str, budget: str = "steps", **rest: Any) -> Trials:
    """Prepare the experiment of a study."""
    cache = Path((tree.get("storage") or {}).get("path", "runs")).resolve() / "cache"
    return Trials(tree, places(path), cache, path, budget=budget, **rest)  # type: ignore[arg-type]


def ablate(
    path: Path,
    overrides: Sequence[str],
    design: str,
    seeds: int,
    budget: str,
    studies: Path,
    how: How,
) -> Study:
    """Run all arms of a design on paired seeds."""
    tree = written(path, overrides)
    folder = named(studies, tree, "ablate", design)
    trials = trials_of(tree, str(path), budget)
    plan = designs.lay_out(tree, trials.base, design)
    if budget == "target" and trials.base.target is None:
        raise ValueError("--budget target counts the target's examples; the experiment has none.")
    first = trials.base.train.seed
    question = {
        **_question(tree, path, trials, "ablate", design, folder.name),
        "seeds": list(range(first, first + seeds)),
        "budget": budget,
        "baseline": plan.baseline,
        "comparisons": [list(pair) for pair in plan.comparisons],
    }
    own = study.create(folder, question, trials.prepared)
    return _ablated(own, trials, how)


def tune(
    path: Path,
    overrides: Sequence[str],
    space: str,
    count: int,
    search: str,
    objective: str | None,
    studies: Path,
    how: How,
) -> Study:
    """Search a space with so many trials beside the experiment as it is."""
    if search not in proposals.NAMES:
        raise ValueError(f"--search is {search!r}; expected {', '.join(proposals.NAMES)}.")
    tree = written(path, overrides)
    folder = named(studies, tree, "tune", space)
    trials = trials_of(tree, str(path))
    goal = objective or ("mean" if trials.base.target is None else "target")
    question = {
        **_question(tree, path, trials, "tune", space, folder.name),
        "seeds": [trials.base.train.seed],
        "budget": "steps",
        "baseline": WRITTEN,
        "comparisons": [],
        "search": search,
        "scheduler": how.scheduler,
        "trials": count,
        "objective": goal,
    }
    _searching(question, trials, [])  # what is wrong with space, search and objective is told now
    return _tuned(study.create(folder, question, trials.prepared), trials, how)


def resume(folder: Path, how: How) -> Study:
    """Go on with a study from where it stands."""
    own = Study(folder)
    asked = own.question
    trials = trials_of(asked["experiment"], asked["origin"], asked["budget"], prepared=own.prepared)
    return (_ablated if asked["kind"] == "ablate" else _tuned)(own, trials, how)


def _question(
    tree: Mapping[str, Any], path: Path, trials: Trials, kind: str, what: str, name: str
) -> dict[str, Any]:
    base = trials.base
    main = trials.prepared.family(base.target).main if base.target else None
    return {
        "name": name,
        "kind": kind,
        "what": what,
        "origin": str(path.resolve()),
        "experiment": dict(tree),
        "target": base.target,
        "metric": base.score or (f"{base.target}/{main}" if base.target else "mean"),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _ablated(own: Study, trials: Trials, how: How) -> Study:
    asked = own.question
    plan = designs.lay_out(asked["experiment"], trials.base, asked["what"])
    wanted = [
        Wanted(arm.name, arm.kind, arm.changes, seed)
        for seed in asked["seeds"]
        for arm in plan.arms
    ]
    agenda = Listed(own, trials, wanted, earlier=_earlier(own), tell=_teller(how, len(wanted)))
    found = [_known(agenda, trials, one) for one in wanted]
    new = {digest for digest, known in found if not known}
    reused = len({digest for digest, known in found if known})
    _tell_price(own, trials, how, len(new), reused)
    return _run(own, trials, agenda, how)


def _known(agenda: Agenda, trials: Trials, wanted: Wanted) -> tuple[str, bool]:
    """Say which trial an arm and a seed come to, and whether it is finished already."""
    try:
        digest = trials.plan(wanted.changes, wanted.seed).hash
    except (ExperimentError, ValueError, LookupError):
        return f"{wanted.arm} {wanted.seed}", True  # nothing to run; shown as failed
    return digest, agenda.known(digest) is not None


def _tuned(own: Study, trials: Trials, how: How) -> Study:
    asked = own.question
    baseline = Wanted(WRITTEN, "baseline", {}, trials.base.train.seed)
    search = _searching(asked, trials, [])
    agenda = Searched(
        own,
        trials,
        search,
        asked["trials"],
        baseline,
        earlier=_earlier(own),
        tell=_teller(how, asked["trials"] + 1),
    )
    done = sum(result.status == "finished" for result in own.results().values())
    _tell_price(own, trials, how, asked["trials"] + 1 - done, done)
    return _run(own, trials, agenda, how)


def _searching(
    asked: Mapping[str, Any], trials: Trials, earlier: Sequence[Tried]
) -> proposals.Search:
    """Make the search that a study asks for. Raises ``ValueError`` or ``LookupError``."""
    base, name = trials.base, asked["what"]
    space = tune_spaces.get(name)(base.resolved())
    if wrong := points.problems(space, name):
        raise ExperimentError(wrong, "the space")
    tasks, seed = sorted(base.tasks), base.train.seed
    goal = proposals.objective(asked["objective"], tasks, base.target)
    if asked["search"] == "random":
        return proposals.Random(space, seed)
    if asked["search"] == "optuna":
        return proposals.Optuna(space, seed, tasks, goal)
    return proposals.mixtures(space, tasks, goal, _caps(base, trials), seed, earlier)


def _caps(base: Experiment, trials: Trials) -> dict[str, float]:
    """Bound each task's share, so that it is read no more often than ``mixture.max_epochs``."""
    most = base.mixture.max_epochs
    if most is None:
        return {}
    lengths = trials.prepared.lengths()
    mean = sum(float(own.mean()) for own in lengths.values()) / len(lengths)
    examples = max(1.0, base.train.steps * base.batch.tokens / mean)
    return {task: min(1.0, most * len(own) / examples) for task, own in lengths.items()}


def _earlier(own: Study) -> list[Path]:
    """List the other studies in the same store."""
    return [
        p.parent
        for p in sorted(own.folder.parent.glob(f"*/{study.FILE}"))
        if p.parent != own.folder
    ]


def _tell_price(own: Study, trials: Trials, how: How, new: int, reused: int) -> None:
    """Say what the study will cost, and refuse it without the disk it needs."""
    asked = own.question
    needed = price.disk(trials.prepared, new)
    price.require_disk(own.folder, needed)
    seconds = check.check(trials.base, trials.prepared).seconds * new if new else 0.0
    found = price.Price(
        new, reused, seconds, needed, len(asked["seeds"]), len(asked["comparisons"])
    )
    for line in (f"study: {own.folder}", *found.lines()):
        how.tell(line)


def _teller(how: How, count: int) -> Callable[[Asked, Result, bool], None]:
    """Say a line at the end of each trial."""
    ended = 0

    def tell(asked: Asked, result: Result, reused: bool) -> None:
        nonlocal ended
        ended += 1
        score = "" if result.score is None else f" {result.score:.4f}"
        word = "known" if reused else result.status
        why = f": {(result.error or '').splitlines()[0]}" if result.error else ""
        took = "" if reused else f", {result.seconds:.1f} s"
        how.tell(f"{ended} of {count}: {asked.arm}, seed {asked.seed}: {word}{score}{why}{took}")

    return tell


def _run(own: Study, trials: Trials, agenda: Listed | Searched, how: How) -> Study:
    secure_ray()
    from orchestrator import tuning

    with held(own.folder, ".driver.lock"):
        tuning.run(own.folder, agenda, trials.base, how.parallel)
    return own


def failures(own: Study) -> list[tuple[Asked, str]]:
    """Give the trials that failed, with the reason."""
    results = own.results()
    return [
        (asked, str(result.error))
        for asked in own.asked
        if (result := results.get(asked.hash)) is not None and result.status == "failed"
    ]
