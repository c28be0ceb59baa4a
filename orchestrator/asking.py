"""The verbs that ask questions: ``tlmt tune`` and ``tlmt ablate``; ``cli.py`` lists them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.verb import FAILURE, Answer, answering

if TYPE_CHECKING:
    from orchestrator.study import Study

STUDIES = Path("studies")

Words = Annotated[list[str] | None, typer.Argument(metavar="EXPERIMENT [KEY=VALUE]...")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Parallel = Annotated[int | None, typer.Option(help="Trials at a time; default: what fits.")]
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
    studies: Folder = STUDIES,
    resume: Resume = None,
    as_json: Json = False,
) -> Answer:
    """Find out which tasks, strengths, stages or encoders matter."""
    from orchestrator import studies as driver

    how = driver.How(parallel)
    if resume is not None:
        return _ended(driver.resume(_found(words, resume, studies), how))
    path, changes = _split(words)
    if budget not in ("steps", "target"):
        raise ValueError(f"--budget is {budget!r}; expected steps or target.")
    return _ended(driver.ablate(path, changes, design, seeds, budget, studies, how))


@answering
def tune(
    words: Words = None,
    space: Annotated[
        str, typer.Option(help="mixture, regularization, joint, ..., or a file of one's own.")
    ] = "mixture",
    trials: Annotated[int, typer.Option(min=1, help="Beside the experiment as it is.")] = 40,
    search: Annotated[str, typer.Option(help="random, optuna or surrogate.")] = "random",
    scheduler: Annotated[str, typer.Option(help="none, or asha: ends trials early.")] = "none",
    objective: Annotated[
        str | None, typer.Option(help="target, mean, worst, or weights such as a=2,b=1.")
    ] = None,
    parallel: Parallel = None,
    studies: Folder = STUDIES,
    resume: Resume = None,
    as_json: Json = False,
) -> Answer:
    """Search a space of mixtures, strengths, stages or encoders."""
    from orchestrator import studies as driver

    how = driver.How(parallel)
    if resume is not None:
        return _ended(driver.resume(_found(words, resume, studies), how))
    path, changes = _split(words)
    asked = (space, trials, search, scheduler, objective)
    return _ended(driver.tune(path, changes, *asked, studies, how))


def _split(words: list[str] | None) -> tuple[Path, list[str]]:
    if not words or "=" in words[0]:
        raise ValueError("An experiment file comes first, then changes as key=value.")
    return Path(words[0]), words[1:]


def _found(words: list[str] | None, resume: str, studies: Path) -> Path:
    from orchestrator import study

    if words:
        raise ValueError(
            f"--resume goes on with a study as it was asked; {' '.join(words)!r} is too much."
        )
    return study.find(resume, studies)


def _ended(own: Study) -> Answer:
    """Write the page of a study and say what it says."""
    from orchestrator import findings, studies, study_page

    page = study_page.write(own)
    found = findings.find(own)
    failed = studies.failures(own)
    document: dict[str, Any] = {
        "study": str(own.folder),
        "report": str(page),
        "answer": found.answer,
        "failed": [
            {"arm": asked.arm, "seed": asked.seed, "reason": reason} for asked, reason in failed
        ],
    }
    lines = [found.answer, f"report: {page}"]
    if failed:
        lines.append(f"{len(failed)} trials failed; try them again: --resume {own.folder}")
    return Answer(document, "\n".join(lines), FAILURE if failed else 0)
