"""What the strings of a CSV, TSV or CoNLL file mean: numbers, lists or text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pyarrow as pa

from tasks.family import Fault
from tasks.files import Sheet, sheet

_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"[-+]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_MOST = 0.95
"""Share of a column that must be decimals or lists for the rest to be bad rows."""


def typed(sheets: Sequence[Sheet], plain: Collection[str] = ()) -> list[Sheet]:
    """Turn columns of strings into what they are in all splits of a task alike.

    Those that are ``plain`` stay texts, whatever they look like. Else only whole numbers, numbers,
    and lists written as JSON are told apart from text; 007 is text, a code. A column where nearly
    all values are decimals or lists is one of these, and the rows that differ are bad.
    """
    if not sheets:
        return []
    names = sheets[0].table.column_names
    meanings = {column: _meaning(sheets, column) for column in names if column not in plain}
    return [_convert(found, meanings) for found in sheets]


def _meaning(sheets: Sequence[Sheet], column: str) -> tuple[str, Callable[[str], Any]] | None:
    """Say what a column holds, and how to read it; None for text (or lists of words already)."""
    whole = decimal = lists = filled = 0
    for found in sheets:
        if not pa.types.is_string(found.table.schema.field(column).type):
            return None
        for value in found.table[column].to_pylist():
            if value:
                filled += 1
                whole += bool(_WHOLE.fullmatch(value))
                decimal += bool(_NUMBER.fullmatch(value))
                lists += value[0] == "[" and value[-1] == "]"
    if filled and whole == filled:
        return "a whole number", int
    if filled and decimal > whole and decimal >= _MOST * filled:
        return "a number", _number
    if filled and lists >= _MOST * filled:
        return "a list, written as JSON", _list
    return None


def _number(value: str) -> float:
    if not _NUMBER.fullmatch(value):
        raise ValueError(value)
    return float(value)


def _list(value: str) -> list[Any]:
    found = json.loads(value)
    if not isinstance(found, list):
        raise ValueError(value)
    return found


def _convert(found: Sheet, meanings: dict[str, tuple[str, Callable[[str], Any]] | None]) -> Sheet:
    if not any(meanings.values()):
        return found
    columns = found.table.to_pydict()
    bad: dict[int, Fault] = {}
    for column, meaning in meanings.items():
        if meaning is None:
            continue
        expected, parse = meaning
        for index, value in enumerate(columns[column]):
            try:
                columns[column][index] = parse(value) if value else None
            except ValueError:
                bad[index] = Fault(column, value, f"{expected}, as in most rows")
    names = found.table.column_names
    records = (
        (found.number(i), bad.get(i) or {name: columns[name][i] for name in names})
        for i in range(found.table.num_rows)
    )
    again = sheet(found.source, records, names)
    again.faults = sorted(found.faults + again.faults, key=lambda fault: fault[0])
    return again
