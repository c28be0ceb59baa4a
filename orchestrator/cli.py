"""The command line: every verb of ``tlmt``. Each imports what it needs only when it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.studies import asking
from orchestrator.verb import FAILURE, INTERRUPTED, Answer, answering, become

if TYPE_CHECKING:
    from orchestrator.experiment import Experiment

RUNS = Path("runs")

app = typer.Typer(
    name="tlmt",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help, which needs no rich
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Words = Annotated[list[str], typer.Argument(metavar="EXPERIMENT [KEY=VALUE]...")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, id or name.")]
Port = Annotated[int, typer.Option(help="Where to listen, on this machine only.")]
Storage = Annotated[Path, typer.Option(help="The folder that holds the runs.")]


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Train one shared encoder and one head per task, jointly, on a Ray cluster.

    Exit codes: 0; 2 for a mistake in what was given; 3 for a failure at run time.
    """


@app.command()
@answering
def check(words: Words, as_json: Json = False) -> Answer:
    """Find every problem, show mixture and cost, take one step."""
    from orchestrator import check as examination
    from orchestrator import run
    from orchestrator.experiment import places

    path, experiment = _experiment(words)
    prepared, _ = run.ready(experiment, places(path), str(path))
    found = examination.check(experiment, prepared)
    return Answer(examination.document(found), examination.shown(found))


@app.command()
@answering
def train(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[EXPERIMENT] [KEY=VALUE]...")
    ] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this run.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Prepare, show, stop.")] = False,
    as_json: Json = False,
) -> Answer:
    """Train one model on all tasks of an experiment."""
    from orchestrator import journal, run
    from orchestrator.experiment import places

    if resume is not None:
        path, changes = (None, words or []) if not words or "=" in words[0] else _split(words)
        return _trained(run.resume(journal.find(resume, RUNS), path, changes))
    path, experiment = _experiment(words)
    if dry_run:
        return Answer(experiment.resolved(), _dry(experiment, path))
    return _trained(run.create(experiment, places(path), str(path)))


@app.command()
@answering
def evaluate(
    run: Run,
    split: Annotated[str, typer.Option(help="validation or test.")] = "test",
    as_json: Json = False,
) -> Answer:
    """Score a run's best checkpoint, in the precision it was trained with."""
    from orchestrator import journal, scored, view

    found = scored.scores(journal.find(run, RUNS), split)
    return Answer(found, view.scores({task: {split: own} for task, own in found.items()}))


@app.command()
@answering
def predict(
    run: Run,
    task: Annotated[str | None, typer.Option(help="Answer for this task alone.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="A text; may be repeated.")] = None,
    file: Annotated[Path | None, typer.Option(help="JSON lines, a record each.")] = None,
    as_json: Json = False,
) -> Answer:
    """Answer texts (or paths of pictures, of sounds): --text, --file, or lines on stdin."""
    from orchestrator import journal, records
    from orchestrator.prepare import Prepared

    folder = journal.find(run, RUNS)
    asked = records.read(text, file, sys.stdin, Prepared.read(folder).reads)
    return _answered(folder, asked, task)


@app.command()
@answering
def demo() -> Answer:
    """Train the ready-made experiment and try it on three sentences."""
    from rich.console import Group

    from orchestrator import run
    from orchestrator.experiment import load, places
    from orchestrator.records import DEMO, shipped

    path = shipped("demo.yaml")
    folder = run.create(load(path), places(path), str(path))
    trained = _trained(folder)
    if trained.code:
        return trained
    tried = _answered(folder, DEMO, None)
    hints = f"More sentences: tlmt predict {folder} --text '...'\nThe run in the browser: tlmt ui"
    document = {**trained.document, "predictions": tried.document}
    return Answer(document, Group(trained.shown, "", tried.shown, "", hints))


@app.command()
@answering
def report(
    run: Annotated[str, typer.Argument(metavar="STUDY_OR_RUN", help="Its folder, id or name.")],
    final: Annotated[bool, typer.Option("--final", help="Open a study's test scores.")] = False,
    studies: asking.Folder = asking.STUDIES,
    as_json: Json = False,
) -> Answer:
    """Write the page of a run or of a study, report.html."""
    from orchestrator import journal

    if (study := asking.study(run, studies)) is not None:
        return asking.reported(study, final)
    from orchestrator import report as pages

    page = pages.write(journal.find(run, RUNS))
    return Answer({"report": str(page)}, str(page))


@app.command()
@answering
def export(run: Run, out: Path, as_json: Json = False) -> Answer:
    """Write a run's tasks as transformers folders."""
    from orchestrator import export as exports
    from orchestrator import journal

    done = exports.export(journal.find(run, RUNS), out)
    document = [{"task": d.task, "folder": str(d.folder), "plain": d.plain} for d in done]
    kinds = {True: "plain transformers", False: "safetensors, see its README"}
    return Answer(document, "\n".join(f"{d.folder}: {kinds[d.plain]}" for d in done))


@app.command()
@answering
def serve(run: Run, port: Port = 5001) -> Answer:
    """Serve a run's model on this machine (MLflow)."""
    from orchestrator import journal, served

    folder = journal.find(run, RUNS)
    if not (folder / "model").is_dir():
        served.save(folder)
    print(f"POST to http://127.0.0.1:{port}/invocations; Ctrl-C ends it.", file=sys.stderr)
    return become(served.command(folder, port))


@app.command()
@answering
def ui(port: Port = 5000) -> Answer:
    """Show this folder's runs in the browser (MLflow)."""
    from orchestrator.store import interface, own_store

    print(f"http://127.0.0.1:{port} shows {own_store()}; Ctrl-C ends it.", file=sys.stderr)
    return become(interface(own_store(), port))


@app.command()
@answering
def sync(
    runs: Annotated[list[str] | None, typer.Argument(help="Or studies. Default: all.")] = None,
    storage: Storage = RUNS,
    as_json: Json = False,
) -> Answer:
    """Send MLflow what it missed of runs and studies."""
    folders = asking.folders(runs, storage)
    from orchestrator.studies.tracking import sync as send  # takes seconds; a wrong name should not

    sent = send(folders)
    lines = [f"{folder}: {'complete' if whole else 'no answer'}" for folder, whole in sent.items()]
    shown = "\n".join(lines) or f"No runs below {storage}."
    document = {str(folder): whole for folder, whole in sent.items()}
    return Answer(document, shown, 0 if all(sent.values()) else FAILURE)


@app.command()
@answering
def doctor(as_json: Json = False) -> Answer:
    """Check that this machine is fit for a run."""
    from orchestrator import doctor as examination

    findings = examination.examine()
    document = examination.as_data(findings)
    return Answer(document, examination.table(findings), 0 if document["ok"] else FAILURE)


for verb in (asking.tune, asking.ablate, asking.confirm):
    app.command()(verb)


def _experiment(words: list[str] | None) -> tuple[Path, Experiment]:
    """Read ``EXPERIMENT [KEY=VALUE]...``."""
    from orchestrator.experiment import load

    if not words or "=" in words[0]:
        raise ValueError("An experiment file comes first, then changes as key=value.")
    path, changes = _split(words)
    return path, load(path, changes)


def _split(words: list[str]) -> tuple[Path, list[str]]:
    return Path(words[0]), words[1:]


def _dry(experiment: Experiment, path: Path) -> str:
    """Prepare the data of an experiment and show what would be run."""
    from orchestrator import run
    from orchestrator.experiment import places

    prepared, _ = run.ready(experiment, places(path), str(path))
    notes = "".join(f"# {note}\n" for note in prepared.notes)
    return f"{notes}{experiment.yaml()}".rstrip()


def _trained(folder: Path) -> Answer:
    """Train the run in a folder to its end, in view of the user, and leave all its views behind."""
    from rich.console import Console

    from orchestrator import folds, run, view
    from orchestrator.experiment import load
    from orchestrator.prepare import Prepared

    print(f"run: {folder}", file=sys.stderr)
    experiment, prepared = load(folder / "experiment.yaml"), Prepared.read(folder)
    mains = {task: prepared.family(task).main for task in prepared.tasks}
    steps = sum(stage.steps for stage in folds.stretches(experiment, prepared))
    try:
        with view.watching(steps, mains) as watch:
            run.train(folder, watch)
    except run.Interrupted as stopped:
        return Answer({"run_id": folder.name, "stopped": str(stopped)}, str(stopped), INTERRUPTED)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    answer = Answer(results, view.scores(results["tasks"]))
    try:
        _rounded_off(folder, experiment.tracking.log_model)
    except Exception:
        Console(stderr=True).print(answer.shown)  # page or model failed; the scores are known
        raise
    return answer


def _rounded_off(folder: Path, model: bool) -> None:
    """Make the page and the model of a finished run, and tell MLflow."""
    from orchestrator import report, served, tracking

    try:
        print(f"report: {report.write(folder)}", file=sys.stderr)
        if model:
            served.save(folder)
    finally:
        tracking.sync_runs([folder])


def _answered(folder: Path, asked: list[dict[str, Any]], task: str | None) -> Answer:
    """Ask a run's model."""
    from orchestrator import view
    from orchestrator.predict import Predictor

    found = Predictor.load(folder)(asked, task)
    return Answer(found, view.answers(asked, found))


def main() -> None:
    """Run the command line; ``--debug`` may stand anywhere in it."""
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    app(arguments, prog_name="tlmt")
