"""The command line: every verb of ``tlmt``."""

import typer

app = typer.Typer(name="tlmt", no_args_is_help=True)


@app.callback()
def root() -> None:
    """Train one shared encoder and one head per task, jointly, on a Ray cluster."""


def main() -> None:
    """Run the command line; the entry point of ``tlmt``."""
    app()
