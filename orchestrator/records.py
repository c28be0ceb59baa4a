"""What is asked of a model: records from arguments, files or stdin; the sentences of the demo."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orchestrator

DEMO = [
    {"text": "The young captain thanked the referee, although the match was really dreadful."},
    {"text": "A nurse was helped by the chemist, and nobody said that the experiment was dull."},
    {"text": "The director lent the pianist a violin last year, and the concert was superb."},
]
"""Sentences that the built-in corpus might hold but need not."""


def shipped(name: str) -> Path:
    """Find a ready experiment: inside an installed package, or beside it in a checkout."""
    package = Path(orchestrator.__file__).parent
    inside = package / "experiments" / name
    return inside if inside.is_file() else package.parent / "experiments" / name


def read(
    texts: Sequence[str] | None, file: Path | None, stdin: Iterable[str]
) -> list[dict[str, Any]]:
    """Gather what is asked: given texts, else a file of JSON lines, else a text per line of stdin.

    Raises ``ValueError`` with file and line for what is no record, and if nothing is asked.
    """
    if texts and file:
        raise ValueError("--text and --file were both given; give one of them.")
    if file is not None:
        lines = enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        asked = [record(line, f"{file}, line {number}") for number, line in lines if line.strip()]
    else:
        given = texts if texts else (line.rstrip("\n") for line in stdin)
        asked = [{"text": text} for text in given if text.strip()]
    if not asked:
        raise ValueError("There is nothing to answer: give --text, --file, or lines on stdin.")
    return asked


def record(line: str, place: str) -> dict[str, Any]:
    """Read one record. Raises ``ValueError`` that names its place."""
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{place}: {line[:60]!r} is no JSON ({error.msg}, column {error.colno}). "
            'Write one record per line, such as {"text": "..."}.'
        ) from None
    if not isinstance(found, dict):
        raise ValueError(
            f'{place}: found {line[:60]!r}; expected a record such as {{"text": "..."}}.'
        )
    return found
