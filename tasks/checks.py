"""Bad rows: found, set aside where the experiment allows it, and else named in one message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.family import Data, Family, Fault
from tasks.files import Sheet
from tasks.splits import Splits, each

_NAMED = 10
"""Bad rows whose numbers a message lists."""


def checked(
    name: str, family: type[Family[Any]], data: Data, sheets: Mapping[str, Sheet]
) -> tuple[dict[str, Any], Splits, list[str]]:
    """Fit the family, set bad rows aside or refuse them, and count labels outside the set.

    Returns what was fitted to the sound training rows, the sound rows, and every problem.
    """
    found = Splits({}, {}, {})
    if "train" not in sheets:
        raise ValueError(f"{data.path} has no train split; it has {', '.join(sheets) or 'none'}")
    problems = [
        f"tasks.{name}: {sheet.source} holds no rows; expected at least one."
        for sheet in sheets.values()
        if not sheet.table.num_rows and not sheet.faults
    ]
    columns = family.label_columns(data)
    labelled = {s: _labelled(name, columns, s, sheets[s], found, problems) for s in sheets}
    sheets = {split: sheet for split, sheet in labelled.items() if sheet is not None}
    if "train" not in sheets:
        return {}, found, problems
    try:
        fitted = family.fit(data, each(sheets["train"].table))
    except ValueError:
        problems += [
            _refusal(name, sheet.source, sheet.faults, data.max_bad_rows)
            for sheet in sheets.values()
            if len(sheet.faults) > data.max_bad_rows
        ]
        if problems:  # rows that could not be read may be why
            return {}, found, problems
        raise
    for split, sheet in sheets.items():
        bad, outside = _faults(family(data, fitted), sheet, split == "train")
        numbered = [(sheet.number(index), fault) for index, fault in bad.items()]
        faults = sorted(sheet.faults + numbered, key=lambda pair: pair[0])
        if len(faults) > data.max_bad_rows:
            problems.append(_refusal(name, sheet.source, faults, data.max_bad_rows))
            continue
        if bad:
            sheet = sheet.only([i for i in range(sheet.table.num_rows) if i not in bad])
            if split == "train":  # what was set aside must not leave its labels behind
                fitted = family.fit(data, each(sheet.table))
        if faults and not sheet.table.num_rows:
            problems.append(f"tasks.{name}: all {len(faults)} rows of {sheet.source} are bad.")
        found.rows[split] = sheet.table
        found.sources[split] = sheet.source
        found.numbers[split] = sheet.numbers
        found.set_aside[split] = len(faults)
        found.strange[split] = len(outside)
        found.notes += _notes(name, sheet, len(faults), outside)
    return fitted, found, problems


def _labelled(
    name: str,
    columns: Sequence[str],
    split: str,
    sheet: Sheet,
    found: Splits,
    problems: list[str],
) -> Sheet | None:
    """Leave out the rows without a label, and tell; a split of nothing else is None.

    Blanks are no labels: empty cells are all that a text file can say of what is missing.
    """
    lacking = {
        index
        for column in columns
        for index, value in enumerate(sheet.table[column].to_pylist())
        if value is None or (isinstance(value, str) and not value.strip())
    }
    rows = sheet.table.num_rows
    found.unlabelled[split] = len(lacking)
    if not lacking:
        return sheet
    where = f"rows of {sheet.source} have no label in column {' or '.join(map(repr, columns))}"
    if len(lacking) < rows or sheet.faults:
        found.notes.append(f"tasks.{name}: {len(lacking)} of {rows} {where} and take no part.")
        return sheet.only([index for index in range(rows) if index not in lacking])
    if split == "train":
        problems.append(
            f"tasks.{name}: all {rows} {where}; expected at least one that has. Name the right"
            " column under `data`."
        )
    else:
        found.notes.append(f"tasks.{name}: all {rows} {where}, so there is no {split} split.")
    return None


def _faults(
    family: Family[Any], sheet: Sheet, training: bool
) -> tuple[dict[int, Fault], dict[int, Fault]]:
    """Find bad rows, and good rows that would be bad in training: their label is unknown."""
    bad: dict[int, Fault] = {}
    outside: dict[int, Fault] = {}
    for index, row in enumerate(each(sheet.table)):
        fault = family.fault(row, True)
        if fault is None:
            continue
        if training:
            bad[index] = fault
            continue
        lasting = family.fault(row, False)
        if lasting is None:
            outside[index] = fault
        else:
            bad[index] = lasting
    return bad, outside


def _refusal(name: str, source: str, faults: list[tuple[int, Fault]], allowed: int) -> str:
    """Compose the message for the bad rows of one file: the first in full, the others' numbers."""
    number, fault = faults[0]
    column = f", column {fault.column!r}" if fault.column else ""
    more = ""
    if len(faults) > 1:
        others = ", ".join(str(other) for other, _ in faults[1 : _NAMED + 1])
        rest = ", ..." if len(faults) > _NAMED + 1 else ""
        rows = "1 other row is" if len(faults) == 2 else f"{len(faults) - 1} other rows are"
        more = f" {rows} bad too ({others}{rest})."
    limit = f" (now {allowed})" if allowed else ""
    return (
        f"tasks.{name}: {source}, row {number}{column}: found {_shown(fault.found)};"
        f" expected {fault.expected.rstrip('.')}.{more} Correct the rows, or set"
        f" tasks.{name}.data.max_bad_rows={len(faults)}{limit} to set them aside."
    )


def _notes(name: str, sheet: Sheet, set_aside: int, outside: Mapping[int, Fault]) -> Iterator[str]:
    if set_aside:
        rows = "row was" if set_aside == 1 else "rows were"
        yield f"tasks.{name}: {set_aside} bad {rows} set aside of {sheet.source}."
    if outside:
        index, fault = next(iter(outside.items()))
        yield (
            f"tasks.{name}: {len(outside)} of {sheet.table.num_rows} rows of {sheet.source} have a"
            f" label that the training rows lack, the first {_shown(fault.found)} in row"
            f" {sheet.number(index)}; such labels count as missed."
        )


def _shown(value: Any) -> str:
    """Show a value on one line, shortened, bytes that are no UTF-8 as ``\\xff``."""
    text = repr(value)
    if isinstance(value, str):
        try:
            text = repr(value.encode("utf-8", "surrogateescape")) if not _sound(value) else text
        except UnicodeEncodeError:  # half of a JSON "\\ud83d\\ude00", not a byte of the file
            text = ascii(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _sound(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)
