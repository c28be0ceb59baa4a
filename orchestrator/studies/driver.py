"""A study from the driver's side: asked, priced, run, and what came out."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import document, run
from orchestrator.access import held, secure_ray
from orchestrator.experiment import ExperimentError, places
from orchestrator.studies import designs, population, price, proposals, searching, study
from orchestrator.studies.agenda import Agenda, Listed, Searched, Wanted
from orchestrator.studies.population import Population, generations
from orchestrator.studies.study import Asked, Result, Study
from orchestrator.studies.trials import Trials

LOOK = 1.0
"""Seconds between two looks of MLflow's mirror at a study."""
SCHEDULERS = ("none", "asha", "pbt")
WRITTEN = "as written"
"""The arm without changes."""


@dataclass(frozen=True)
class How:
    """How trials are run; nothing of it changes a result."""

    parallel: int | None = None
    """Trials at a time; None: as many as the cluster has room for."""
    engine: str = "auto"
    """``plain``: one process a trial; ``deepspeed``: workers of its own; ``auto``: by how many."""
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
    with _refusable(folder):
        return _ablated(study.create(folder, question, trials.prepared), trials, how)


def tune(
    path: Path,
    overrides: Sequence[str],
    space: str,
    count: int,
    search: str,
    scheduler: str,
    objective: str | None,
    earlier: Sequence[Path],
    studies: Path,
    how: How,
) -> Study:
    """Search a space with so many trials beside the experiment as it is."""
    if search not in proposals.NAMES:
        raise ValueError(f"--search is {search!r}; expected {', '.join(proposals.NAMES)}.")
    if scheduler not in SCHEDULERS:
        raise ValueError(f"--scheduler is {scheduler!r}; expected {', '.join(SCHEDULERS)}.")
    if earlier and search != "surrogate":
        raise ValueError(f"--earlier is for --search surrogate; {search} starts from nothing.")
    tree = written(path, overrides)
    file, colon, function = space.partition(":")
    if file.endswith(".py"):  # found again from any folder
        space = f"{Path(file).resolve()}{colon}{function}"
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
        "scheduler": scheduler,
        "trials": count,
        "objective": goal,
        "earlier": [str(place) for place in earlier],
    }
    searching.search(question, trials)  # what is wrong with space, search and objective is told now
    if scheduler == "pbt":
        ranges = searching.space(question, trials)
        wrong = population.refused(ranges, trials.base, count, search, objective)
        if wrong is not None:
            raise ValueError(f"--scheduler pbt: {wrong}.")
    with _refusable(folder):
        return _tuned(study.create(folder, question, trials.prepared), trials, how)


@contextmanager
def _refusable(folder: Path) -> Iterator[None]:
    """Free the name of a study that could not begin.

    What was in its folder before, and what any of its trials came to, stays.
    """
    new = not folder.exists()
    try:
        yield
    except (ValueError, OSError):
        if not any(folder.glob(f"trials/*/{study.RESULTS}")):
            (folder / study.FILE).unlink(missing_ok=True)
            if new:
                shutil.rmtree(folder, ignore_errors=True)
        raise


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
    price.tell(own, trials, len(new), reused, how.tell)
    return _run(own, trials, agenda, how)


def _known(agenda: Agenda, trials: Trials, wanted: Wanted) -> tuple[str, bool]:
    """Say which trial an arm and a seed come to, and whether it is finished already."""
    try:
        digest = trials.plan(wanted.changes, wanted.seed).hash
    except (ExperimentError, ValueError, LookupError):
        return f"{wanted.arm} {wanted.seed}", True  # nothing to run; shown as failed
    return digest, agenda.known(digest) is not None


def _tuned(own: Study, trials: Trials, how: How) -> Study:
    agenda = agenda_of(own, trials, how)
    done = sum(result.status == "finished" for result in own.results().values())
    price.tell(own, trials, own.question["trials"] + 1 - done, done, how.tell)
    return _run(own, trials, agenda, how)


def agenda_of(own: Study, trials: Trials, how: How) -> Searched | Population:
    """Give what a study of the kind ``tune`` still has to run."""
    asked, earlier, count = own.question, _earlier(own), own.question["trials"]
    baseline = Wanted(WRITTEN, "baseline", {}, trials.base.train.seed)
    if asked["scheduler"] == "pbt":
        ranges, parts = searching.space(asked, trials), generations(trials.base)
        tell = _teller(how, count * parts + 1)
        return Population(own, trials, ranges, count, baseline, earlier=earlier, tell=tell)
    search, tell = searching.search(asked, trials), _teller(how, count + 1)
    return Searched(own, trials, search, count, baseline, earlier=earlier, tell=tell)


def _earlier(own: Study) -> list[Path]:
    """List the other studies in the same store."""
    return [
        p.parent
        for p in sorted(own.folder.parent.glob(f"*/{study.FILE}"))
        if p.parent != own.folder
    ]


def _teller(how: How, count: int) -> Callable[[Asked, Result, bool], None]:
    """Say a line at the end of each trial."""
    ended = 0

    def tell(asked: Asked, result: Result, reused: bool) -> None:
        nonlocal ended
        ended += 1
        score = "" if result.score is None else f" {result.score:.4f}"
        halfway = asked.kind == "part" and result.status == "stopped"
        word = "known" if reused else "so far" if halfway else result.status
        why = f": {' '.join(result.error.split())}" if result.error else ""
        took = "" if reused else f", {result.seconds:.1f} s"
        how.tell(f"{ended} of {count}: {asked.arm}, seed {asked.seed}: {word}{score}{why}{took}")

    return tell


def _run(own: Study, trials: Trials, agenda: Listed | Searched | Population, how: How) -> Study:
    """Run what is to be run, with MLflow beside it."""
    secure_ray()
    from orchestrator.studies import tuning
    from orchestrator.studies.tracking import StudyTracker

    scheduler, engine = own.question.get("scheduler", "none"), how.engine
    nested = engine == "deepspeed" or (engine == "auto" and trials.base.scaling.workers > 1)
    if nested and scheduler != "none":
        raise ValueError(
            f"--scheduler {scheduler} looks at trials while they run, which those with workers of "
            f"their own do not allow. Take --trial-engine plain, or --scheduler none."
        )
    if nested:
        how.tell(
            f"Each trial has {trials.base.scaling.workers} workers of its own, which start in tens "
            f"of seconds; --trial-engine plain runs it in one process that is ready."
        )
    with held(own.folder, ".driver.lock"), run.mirrored(StudyTracker(own), LOOK):
        try:
            tuning.run(own.folder, agenda, trials.base, how.parallel, scheduler, nested)
        except KeyboardInterrupt:
            how.tell(f"Go on with: tlmt {own.question['kind']} --resume {own.folder}")
            raise
    return own
