"""What all verbs of the command line share: one answer, one message for an error, an exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from rich.console import RenderableType

MISTAKE = 2
"""The exit code when the user can mend it."""

FAILURE = 3
"""The exit code when a run or a check failed."""

INTERRUPTED = 130
"""What shells take for Ctrl-C."""

WIDE = 10_000
"""Columns of a pipe: no table is cut there."""

FILES = (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError, PermissionError)
BUGS = (KeyError, IndexError)
"""Lookup errors of the program's own; those that name a user's mistake are plain ones."""


class Answer(NamedTuple):
    """What a verb found: a document for ``--json``, how a person sees it, and the exit code."""

    document: Any
    shown: RenderableType
    code: int = 0


def answering(function: Callable[..., Answer]) -> Callable[..., None]:
    """Make a function print its answer and end with an exit code; ``as_json`` chooses the form.

    Whatever libraries print meanwhile goes to stderr, so that stdout holds the answer alone.
    With ``--debug`` anywhere on the command line an error shows its traceback.
    """

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            with redirect_stdout(sys.stderr):
                answer = function(*args, **kwargs)
        except (Exception, KeyboardInterrupt) as error:
            if "--debug" in sys.argv:
                traceback.print_exc()
            raise SystemExit(told(error)) from None
        if kwargs.get("as_json"):
            print(json.dumps(answer.document, indent=2, ensure_ascii=False))
        else:
            show(answer.shown)
        raise SystemExit(answer.code)

    return run


def told(error: BaseException) -> int:
    """Say on stderr what happened, and give the exit code."""
    code = exit_code(error)
    message = str(error) or type(error).__name__
    if code == INTERRUPTED:
        message = "Interrupted."
    elif code == FAILURE:
        message = f"{type(error).__name__}: {message}\n`--debug` shows where it happened."
    elif isinstance(error, OSError) and error.filename is not None:
        message = f"{error.filename}: {error.strerror}."
    print(message, file=sys.stderr)
    return code


def exit_code(error: BaseException) -> int:
    """Tell the user's mistakes from failures."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, (ValueError, LookupError, *FILES)) and not isinstance(error, BUGS):
        return MISTAKE
    return FAILURE


def serving() -> dict[str, str]:
    """Give the environment of a server: no pickle, no telemetry, and this interpreter's programs.

    MLflow starts its web server by name, so it must be found without an activated environment.
    """
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes for what is not used
    }


def become(command: list[str]) -> NoReturn:
    """Turn this process into a server: whoever ends the command ends the server, not its parent."""
    os.execvpe(command[0], command, serving())


def show(renderable: RenderableType) -> None:
    """Print on stdout: coloured on a terminal; plain and never wrapped in a pipe."""
    from rich.console import Console

    piped = not sys.stdout.isatty()
    console = Console(width=WIDE if piped else None, highlight=False, markup=False, emoji=False)
    console.print(renderable, soft_wrap=piped)
