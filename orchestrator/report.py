"""One self-contained HTML page about a run, finished or not."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2

from orchestrator import charts, journal
from orchestrator.journal import replace_text
from orchestrator.summary import Summary

FILE = "report.html"
STATUS = {
    "start": "training, or lost",
    "resume": "training, or lost",
    "stop": "stopped",
    "failed": "failed",
    "test": "finished",
    "end": "finished",
}


def write(folder: Path) -> Path:
    """Draw the pictures of a run and write its page; give the page's path.

    Raises ``ExperimentError`` if the folder holds no run.
    """
    page = rendered(Path(__file__).with_name(FILE), content(folder))
    path = folder / FILE
    replace_text(path, page)
    return path


def rendered(
    template: Path, content: Mapping[str, Any], filters: Mapping[str, Callable[..., str]] = {}
) -> str:
    """Fill a template; what is filled in is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(template.name).render(content)


def content(folder: Path) -> dict[str, Any]:
    """Gather what the page shows."""
    summary = Summary(folder)
    pictures = {name: _inline(path) for name, path in charts.draw(folder).items()}
    confusions = [(task, pictures[f"confusion-{task}"]) for task in sorted(summary.confusions)]
    experiment = summary.experiment
    return {
        "name": experiment["name"],
        "run": summary.run,
        "status": _status(summary),
        "encoder": experiment["encoder"]["model"],
        "tasks": sorted(experiment["tasks"]),
        "target": experiment.get("target"),
        "facts": list(_facts(summary)),
        "command": f"tlmt train {folder / 'experiment.yaml'}",
        "notes": list(_notes(summary)),
        "scores": list(_scores(summary)),
        "best_step": summary.results.get("best_step", summary.results.get("steps")),
        "losses": pictures.get("losses"),
        "curves": pictures.get("scores"),
        "mixture": list(_mixture(summary)),
        "confusions": confusions,
        "data": list(summary.data()),
        "lists": [
            *_details(summary),
            ("All settings of the experiment", list(summary.settings())),
            ("Versions of the libraries", sorted(summary.versions.items())),
        ],
    }


def _inline(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def _status(summary: Summary) -> str:
    last = journal.last_event(summary.records, *STATUS)
    return STATUS[str(last.event)] if last is not None else "not started"


def _facts(summary: Summary) -> Iterator[tuple[str, str]]:
    records, results = summary.records, summary.results
    yield "run", summary.run
    if summary.hash:
        yield "hash", summary.hash[:16]
    if records:
        began, ended = records[0].time, records[-1].time
        yield "started", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(began))
        yield "took", duration(ended - began)
    if results:
        yield "steps", f"{results['steps']:,}"
        speed = results["speed"]
        yield "speed", f"{speed['tokens_per_second']:,.0f} tokens/s"
        yield "to the first step", f"{speed['seconds_to_first_step']:.0f} s"
        yield "memory of a worker", f"{speed['peak_memory_mb']:,.0f} MB at most"
        if "drift" in results:
            yield "encoder's way", f"{results['drift']:.1%} of its first weights' norm"
    if summary.stages:
        yield "stages", ", ".join(f"{name} from step {step}" for step, name in summary.stages)
    workers = summary.experiment.get("scaling", {}).get("workers", 1)
    stage = summary.experiment.get("deepspeed", {}).get("zero_stage")
    yield "workers", f"{workers}, ZeRO stage {stage}, {summary.precision}"
    if results.get("mlflow_run_id"):
        yield "MLflow run", results["mlflow_run_id"]


def duration(seconds: float) -> str:
    """Say a length of time in its two largest units."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _notes(summary: Summary) -> Iterator[str]:
    """Give what was told once about the data, and every interruption."""
    yield from summary.prepared.get("notes", [])
    for record in summary.records:
        if record.event == "resume":
            yield f"Went on from step {record.value['from_step']} (attempt {record.attempt})."
        elif record.event == "failed":
            yield f"Failed at step {record.step}: {record.value.get('error', 'no message')}"
        elif record.event == "stop":
            yield f"Was stopped at step {record.step}."


def _details(summary: Summary) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Give what families tell at length of their data, such as the words of topics."""
    for task, own in sorted(summary.prepared.get("tasks", {}).items()):
        for title, rows in own.get("details", {}).items():
            yield f"{task}: {title}", rows


def _scores(summary: Summary) -> Iterator[dict[str, Any]]:
    for task, splits in summary.results.get("tasks", {}).items():
        validation, test = splits.get("validation") or {}, splits.get("test") or {}
        main = summary.main(task)
        metrics = sorted({*validation, *test}, key=lambda m: (m != main, m == "loss", m))
        for place, metric in enumerate(metrics):
            yield {
                "task": task,
                "metric": metric,
                "main": metric == main,
                "first": place == 0,
                "last": place == len(metrics) - 1,
                "validation": _number(validation.get(metric)),
                "test": _number(test.get(metric)),
                "majority": _number(_majority(summary, task) if metric == "accuracy" else None),
            }


def _majority(summary: Summary, task: str) -> float | None:
    """Give the accuracy on test of always naming the most frequent label there."""
    found = summary.confusions.get(task)
    sizes = [sum(row) for row in found["counts"]] if found else []
    return max(sizes) / sum(sizes) if sum(sizes) else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _mixture(summary: Summary) -> Iterator[dict[str, Any]]:
    seen = summary.results.get("examples_seen", {})
    for task, count in sorted(seen.items()):
        settings = summary.experiment["tasks"][task]
        rows = summary.prepared["tasks"][task]["splits"]["train"]["rows"]
        yield {
            "task": task,
            "family": settings["family"],
            "share": count / max(1, sum(seen.values())),
            "seen": count,
            "rows": rows,
            "epochs": count / max(1, rows),
            "weight": settings.get("weight", 1.0),
        }
