"""One self-contained HTML page about a study, finished or not, with its tables beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from orchestrator.journal import replace_text
from orchestrator.report import duration, rendered
from orchestrator.studies import charts, lineages, mixture_charts, statistics, tables
from orchestrator.studies.answers import chance, number, within
from orchestrator.studies.charts import Bar
from orchestrator.studies.contrasts import MARGIN
from orchestrator.studies.evidence import MEAN
from orchestrator.studies.findings import Findings
from orchestrator.studies.searched import Search
from orchestrator.studies.study import Study
from orchestrator.studies.themed import picture

FILE = "report.html"
TEMPLATE = Path(__file__).with_name("study.html")
FINAL = "final"
CONFIRMED = "confirm.json"
"""What `tlmt confirm` leaves in a study's folder."""
Drawn = tuple[str, str, Callable[[float], Figure]]
"""Name, what is read aloud, and how to draw to a width."""
MANY = 40
"""Arms beyond which a picture of all would not be looked at."""
SHOWN = 10
"""Of the best trials."""
ASKED = {
    "leave-one-out": "What is lost when each helper is left out?",
    "add-one-in": "What does each helper add to the target alone?",
    "pairs": "Which task helps which, two at a time?",
    "subsets": "What does each helper add in the company of others?",
    "regularization": "How does the score follow each strength, the others fixed?",
    "stages": "Which sequence of stages is best?",
    "encoders": "Which encoder is best?",
    "mixture": "How much of each task is best?",
}


def write(study: Study, found: Findings) -> Path:
    """Write a study's page, CSVs and ``results.parquet`` into its folder; give the page's path.

    What test scores are in goes to a folder of its own: other readers of the study do not see it.
    """
    folder = study.folder / FINAL if found.final else study.folder
    folder.mkdir(exist_ok=True)
    names = tables.write(study, found, folder)
    filters = {"number": _number, "p": _chance, "whole": _whole}
    path = folder / FILE
    replace_text(path, rendered(TEMPLATE, content(study, found, names), filters))
    return path


def content(study: Study, found: Findings, names: list[str]) -> dict[str, Any]:
    """Gather what the page shows."""
    question = found.question
    what = str(question.get("what"))
    figures = dict(_figures(study, found))
    command = f"tlmt report {study.folder}{' --final' if found.final else ''}"
    return {
        "found": found,
        "confirmed": _confirmed(study),
        "question": {"target": None, "metric": None, **question},
        "title": f"{(question.get('experiment') or {}).get('name') or question['name']}: {what}",
        "asked": ASKED.get(what, f"Which settings of the space {what} are best?"),
        "split": "test" if found.final else "validation",
        "status": _status(found),
        "facts": list(_facts(found)),
        "figures": figures,
        "tasks": list(study.prepared.tasks),
        "within": within,
        "best": list(_best(found)),
        "schedule": list(_schedule(found)),
        "unharmed": any(own.spared for own in (*found.declared, *found.exploratory)),
        "margin": number(float(question.get("margin") or MARGIN)),
        "fewest": statistics.FEWEST,
        "unended": sum(0 < len(own.values) < own.asked for own in found.arms),
        "sources": list(_sources(figures, names, command)),
        "tables": [*names, tables.PARQUET],
        "command": command,
    }


def _confirmed(study: Study) -> dict[str, Any] | None:
    """Give what came out on fresh seeds, if that was asked."""
    file = study.folder / CONFIRMED
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _number(value: float | None) -> str:
    return "" if value is None else number(value)


def _chance(p: float) -> str:
    """Write a p value for a column of such."""
    return chance(p).removeprefix("p ").removeprefix("= ")


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _status(found: Findings) -> str:
    own = found.spent
    if own.waiting:
        return (
            f"{own.asked + _planned(found) - own.waiting} of {own.asked + _planned(found)} trials"
        )
    return "finished" if not own.failed else f"finished, {own.failed} failed"


def _planned(found: Findings) -> int:
    """Count trials that were not asked for yet."""
    own = found.spent
    return own.finished + own.stopped + own.failed + own.waiting - own.asked


def _facts(found: Findings) -> Iterator[tuple[str, str]]:
    question, own = found.question, found.spent
    metric = question.get("metric") or MEAN
    score = "mean of the tasks' main scores" if metric == MEAN else metric
    yield "compared by", f"{score}, on {'test' if found.final else 'validation'}"
    seeds = question.get("seeds") or []
    yield "seeds", f"{len(seeds)}, paired: the same for each arm" if len(seeds) > 1 else "one"
    budgets = {"steps": "the same steps in all", "target": "the same examples of the target"}
    yield "equal budget", budgets.get(str(question.get("budget")), "not stated")
    if found.search is None:
        yield "declared comparisons", _declared(found)
    else:
        search, scheduler = question.get("search", "random"), question.get("scheduler", "none")
        yield "search", f"{search}, scheduler {scheduler}"
    ended = [f"{own.finished} finished"]
    ended += [
        f"{n} {name}"
        for n, name in (
            (own.failed, "failed"),
            (own.stopped, "stopped early"),
            (own.waiting, "to come"),
        )
        if n
    ]
    yield "trials", ", ".join(ended)
    yield "time of all trials", duration(own.seconds)
    openings = len(found.openings)
    yield "test items opened", {0: "never", 1: "once"}.get(openings, f"{openings} times")


def _declared(found: Findings) -> str:
    count = len(found.declared)
    if not count:
        return "none: all is exploratory"
    seeds = len(found.question.get("seeds") or [])
    return f"{count}; the smallest p after Holm is {_chance(statistics.least(seeds, count))}"


def _figures(study: Study, found: Findings) -> Iterator[tuple[str, str]]:
    """Draw what there is something for."""
    for name, says, draw in (*_of_arms(found), *_of_search(study, found)):
        yield name, picture(name, says, draw)


def _of_arms(found: Findings) -> Iterator[Drawn]:
    metric = str(found.question.get("metric") or MEAN)
    arms = [
        Bar(own.name, own.mean, own.low, own.high)
        for own in found.arms
        if own.mean is not None and (found.search is None or len(own.values) > 1)
    ]
    if found.matrix:
        yield "matrix", "Gain of targets by helpers", partial(charts.matrix, found.matrix)
    else:
        if 1 < len(arms) <= MANY:
            yield "arms", "Mean scores", partial(charts.forest, arms, metric, False)
        yield from _differences(found, metric)
    if found.helpers:
        bars = [Bar(e.helper, e.value, e.low, e.high, e.significant) for e in found.helpers]
        yield "helpers", "What helpers add", partial(charts.forest, bars, metric, True)
    if found.curves:
        draw = partial(charts.curves, found.curves, metric)
        yield "curves", "Score by strength", draw


def _differences(found: Findings, metric: str) -> Iterator[Drawn]:
    compared = [own for own in (*found.declared, *found.exploratory) if own.mean is not None]
    others = sorted({own.other for own in compared})
    against = f", against {others[0]}" if len(others) == 1 else ""
    rows = [
        Bar(
            own.arm if against else f"{own.arm} - {own.other}",
            own.mean or 0.0,
            own.low,
            own.high,
            own.significant,
            apart=place > 0 and compared[place - 1].declared and not own.declared,
        )
        for place, own in enumerate(compared)
    ]
    if 0 < len(rows) <= MANY:
        draw = partial(charts.forest, rows, f"difference in {metric}{against}", True)
        yield "differences", "Differences of arms", draw


def _of_search(study: Study, found: Findings) -> Iterator[Drawn]:
    metric = str(found.question.get("metric") or MEAN)
    search, spent = found.search, found.spent
    if search is None:
        if spent.seconds and len(spent.by_arm) <= MANY:
            yield "budget", "Time by arm", partial(charts.budget, spent.by_arm)
        return
    if search.surface is not None and search.surface.points:
        draw = partial(mixture_charts.surface, search.surface, metric)
        yield "surface", "Score by the tasks' shares", draw
    if found.lineage:  # members are no independent draws: a best to expect has no meaning
        parts = lineages.schedule(found.lineage, _first(search))
        draw = partial(charts.lineage, found.lineage, parts, metric)
        yield "lineage", "Score of each member by steps", draw
    elif any(own.score is not None for own in search.trials):
        yield "history", "Best score so far", partial(charts.history, search, metric)
    if spent.seconds and search.trials:
        seconds = {digest: own.seconds for digest, own in study.results().items()}
        seconds |= lineages.seconds(found.lineage)
        yield "budget", "Time by trial", partial(charts.spending, search, seconds)


def _best(found: Findings) -> Iterator[tuple[int, str, float, list[tuple[str, str]]]]:
    """Give the best trials of a search: place, arm, score, and what they changed."""
    search = found.search
    done = [
        (own.score, own)
        for own in (search.trials if search else ())
        if own.status == "finished" and own.score is not None
    ]
    alike = {
        key
        for key in (done[0][1].changes if len(done) > 1 else ())
        if all(own.changes.get(key) == done[0][1].changes[key] for _, own in done)
    }  # what the space fixes for all
    for score, own in sorted(done, key=lambda pair: -pair[0])[:SHOWN]:
        shares = [(f"share of {task}", f"{value:.1%}") for task, value in own.shares.items()]
        changes = [
            (key, f"{value:.4g}" if isinstance(value, float) else str(value))
            for key, value in own.changes.items()
            if key != "mixture.shares" and key not in alike
        ]
        yield own.place, own.arm, score, [*changes, *(shares if search and search.surface else [])]


def _first(search: Search) -> str:
    """Name the best trial by its hash; empty before any has finished."""
    done = [own for own in search.trials if own.status == "finished" and own.score is not None]
    return max(done, key=lambda own: own.score or 0.0).hash if done else ""


def _schedule(found: Findings) -> Iterator[tuple[str, list[str]]]:
    """Give each setting of the best member of a population, part by part; first their ends."""
    if found.search is None or not found.lineage:
        return
    parts = lineages.schedule(found.lineage, _first(found.search))
    if not parts:
        return
    yield "up to step", [str(piece.step) for piece in parts]
    yield "member", [piece.member for piece in parts]
    for key in parts[0].changes:
        values = [piece.changes.get(key) for piece in parts]
        yield key, [f"{v:.3g}" if isinstance(v, float) else str(v) for v in values]


def _sources(figures: dict[str, str], tables: list[str], command: str) -> Iterator[tuple[str, str]]:
    """Tell each figure's table."""
    own = {
        "arms": ("Arms", "arms.csv"),
        "differences": ("Differences", "comparisons.csv"),
        "matrix": ("Transfer matrix", "matrix.csv"),
        "helpers": ("Helpers", "helpers.csv"),
        "curves": ("Curves", "curves.csv"),
        "surface": ("Mixture", "trials.csv"),
        "history": ("Best so far", "trials.csv"),
        "lineage": ("Lineage", "lineage.csv"),
        "budget": ("Time", "trials.csv"),
    }
    yield from (own[name] for name in figures)
