"""What is asked of a model: records from arguments, files or stdin; the sentences of the demo."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

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
    texts: Sequence[str] | None, file: Path | None, stdin: TextIO, field: str = "text"
) -> list[dict[str, Any]]:
    """Gather what is asked: given texts, else a file of JSON lines, else a text per line of stdin.

    Where ``field`` is ``image`` or ``audio``, paths stand for texts.
    A blank text is asked too, and every task answers it null: the answers, which do not repeat
    the texts, then stand in the order of the lines. A blank line of a file is no record.
    Raises ``ValueError`` with file and line for what is no record, and if nothing is asked.
    """
    if texts and file:
        raise ValueError("--text and --file were both given; give one of them.")
    if file is not None:
        whole = enumerate(lines(file.read_bytes(), str(file)), 1)
        asked = [record(line, f"{file}, line {number}") for number, line in whole if line.strip()]
    else:
        given = texts or lines(stdin.buffer.read(), "stdin")
        asked = [{field: text} for text in given] if any(map(str.strip, given)) else []
    if not asked:
        raise ValueError("There is nothing to answer: give --text, --file, or lines on stdin.")
    return asked


def lines(data: bytes, place: str) -> list[str]:
    """Read the lines of a UTF-8 text, with or without a byte order mark.

    Only ``\\n`` and ``\\r\\n`` end a line: JSON may hold every other separator (U+2028, U+0085).
    Raises ``ValueError`` that names place and line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{place}, line {number}: byte 0x{error.object[error.start]:02x} is not UTF-8. "
            "Save the text as UTF-8, for example with iconv."
        ) from None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


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
