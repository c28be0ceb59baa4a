"""The command line: every verb of ``tlmt``. Each imports what it needs only when it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.verb import FAILURE, Answer, answering

app = typer.Typer(
    name="tlmt",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help, which needs no rich
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
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
def ui(
    port: Annotated[int, typer.Option(help="Where to listen, on this machine only.")] = 5000,
) -> Answer:
    """Show this folder's runs in the browser (MLflow)."""
    import subprocess

    from orchestrator.store import interface, own_store

    print(f"http://127.0.0.1:{port} shows {own_store()}; Ctrl-C ends it.", file=sys.stderr)
    code = subprocess.run(interface(own_store(), port)).returncode
    return Answer({"code": code}, "", FAILURE if code else 0)


@app.command()
@answering
def sync(
    runs: Annotated[list[str] | None, typer.Argument(help="Default: every run there is.")] = None,
    storage: Storage = Path("runs"),
    as_json: Json = False,
) -> Answer:
    """Send MLflow what it missed of runs."""
    from orchestrator import journal

    folders = [journal.find(run, storage) for run in runs] if runs else journal.runs(storage)
    from orchestrator.tracking import sync_runs  # takes seconds; a wrong name should not

    sent = sync_runs(folders)
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


def main() -> None:
    """Run the command line; ``--debug`` may stand anywhere in it."""
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    app(arguments, prog_name="tlmt")
