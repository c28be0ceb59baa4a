"""The verbs that ask questions: ``tlmt tune`` and ``tlmt ablate``; ``cli.py`` lists them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.verb import FAILURE, Answer, answering

if TYPE_CHECKING:
    from orchestrator.studies.study import Study

STUDIES = Path("studies")

Words = Annotated[list[str] | None, typer.Argument(metavar="EXPERIMENT [KEY=VALUE]...")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Parallel = Annotated[int | None, typer.Option(help="Trials at a time; default: what fits.")]
Engine = Annotated[
    str, typer.Option("--trial-engine", help="plain, deepspeed, or auto: by scaling.workers.")
]
Folder = Annotated[Path, typer.Option("--studies", help="The folder that holds the studies.")]
Resume = Annotated[str | None, typer.Option(help="Go on with this study.")]


@answering
def ablate(
    words: Words = None,
    design: Annotated[
        str, typer.Option(help="leave-one-out, add-one-in, pairs, subsets, regularization, ...")
    ] = "leave-one-out",
    seeds: Annotated[int, typer.Option(min=1, help="Of every arm, paired.")] = 8,
    budget: Annotated[
        str, typer.Option(help="What arms have in common: steps, or examples of the target.")
    ] = "steps",
    parallel: Parallel = None,
    engine: Engine = "auto",
    studies: Folder = STUDIES,
    resume: Resume = None,
    as_json: Json = False,
) -> Answer:
    """Find out which tasks, strengths, stages or encoders matter."""
    from orchestrator.studies import driver as driver

    how = driver.How(parallel, _known(engine))
    if resume is not None:
        return reported(driver.resume(_found(words, resume, studies), how), final=False)
    path, changes = _split(words)
    if budget not in ("steps", "target"):
        raise ValueError(f"--budget is {budget!r}; expected steps or target.")
    own = driver.ablate(path, changes, design, seeds, budget, studies, how)
    return reported(own, final=False)


@answering
def tune(
    words: Words = None,
    space: Annotated[
        str, typer.Option(help="mixture, regularization, joint, ..., or a file of one's own.")
    ] = "mixture",
    trials: Annotated[int, typer.Option(min=1, help="Beside the experiment as it is.")] = 40,
    search: Annotated[str, typer.Option(help="random, optuna or surrogate.")] = "random",
    scheduler: Annotated[
        str, typer.Option(help="none; asha: ends trials early; pbt: a population.")
    ] = "none",
    objective: Annotated[
        str | None, typer.Option(help="target, mean, worst, or weights such as a=2,b=1.")
    ] = None,
    earlier: Annotated[
        list[str] | None, typer.Option(help="A study whose trials the surrogate starts from.")
    ] = None,
    parallel: Parallel = None,
    engine: Engine = "auto",
    studies: Folder = STUDIES,
    resume: Resume = None,
    as_json: Json = False,
) -> Answer:
    """Search a space of mixtures, strengths, stages or encoders."""
    from orchestrator.studies import driver as driver

    how = driver.How(parallel, _known(engine))
    if resume is not None:
        return reported(driver.resume(_found(words, resume, studies), how), final=False)
    path, changes = _split(words)
    from orchestrator.studies.study import find

    known = [find(name, studies) for name in earlier or []]
    asked = (space, trials, search, scheduler, objective, known)
    return reported(driver.tune(path, changes, *asked, studies, how), final=False)


@answering
def confirm(
    name: Annotated[str, typer.Argument(metavar="STUDY", help="A study's folder or name.")],
    arm: Annotated[str | None, typer.Option(help="Instead of the best one.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Fresh ones.")] = 8,
    studies: Folder = STUDIES,
    as_json: Json = False,
) -> Answer:
    """Run a study's winner and baseline on fresh seeds, through Ray Train and DeepSpeed."""
    from orchestrator.studies.confirm import confirmed
    from orchestrator.studies.driver import How
    from orchestrator.studies.study import find

    found = confirmed(find(name, studies), arm, seeds, How())
    return Answer(vars(found), found.sentence)


def _split(words: list[str] | None) -> tuple[Path, list[str]]:
    if not words or "=" in words[0]:
        raise ValueError("An experiment file comes first, then changes as key=value.")
    return Path(words[0]), words[1:]


def _known(engine: str) -> str:
    if engine not in ("auto", "plain", "deepspeed"):
        raise ValueError(f"--trial-engine is {engine!r}; expected plain, deepspeed or auto.")
    return engine


def _found(words: list[str] | None, resume: str, studies: Path) -> Path:
    from orchestrator.studies import study

    if words:
        raise ValueError(
            f"--resume goes on with a study as it was asked; {' '.join(words)!r} is too much."
        )
    return study.find(resume, studies)


def study(name: str, studies: Path) -> Study | None:
    """Open a study by its folder or name, if there is one."""
    from orchestrator.studies import study as own

    try:
        return own.Study(own.find(name, studies))
    except LookupError:
        return None


def folders(names: list[str] | None, storage: Path) -> list[Path]:
    """Find runs and studies by name; without names, all of both."""
    from orchestrator import journal

    if not names:
        every = sorted(path.parent.resolve() for path in STUDIES.glob("*/study.yaml"))
        return [*journal.runs(storage), *every]
    known = ((name, study(name, STUDIES)) for name in names)
    return [journal.find(name, storage) if own is None else own.folder for name, own in known]


def reported(own: Study, final: bool) -> Answer:
    """Write the page of a study and say what it says; ``final`` opens the test scores."""
    from orchestrator.studies import findings, page
    from orchestrator.studies.tracking import StudyTracker

    found = findings.find(own, final)
    path = page.write(own, found)
    StudyTracker(own).sync(now=True)
    failed = own.failures()
    document: dict[str, Any] = {
        "study": str(own.folder),
        "report": str(path),
        "answer": found.answer,
        "failed": [
            {"arm": asked.arm, "seed": asked.seed, "reason": reason} for asked, reason in failed
        ],
    }
    lines = [found.answer, f"report: {path}"]
    if failed:
        lines.append(f"{len(failed)} trials failed; try them again: --resume {own.folder}")
    return Answer(document, "\n".join(lines), FAILURE if failed else 0)
