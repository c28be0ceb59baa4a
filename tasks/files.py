"""One file of rows: Parquet, JSON, CSV, TSV or CoNLL, read into a table with its bad rows named."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import conll
from tasks.family import Fault

FORMATS = ("parquet", "jsonl", "json", "csv", "tsv", "conll", "conllu")

_LEAST, _MOST = -(2**63), 2**63 - 1
"""Whole numbers that a table holds."""

Record = tuple[int, dict[str, Any] | Fault]
"""A row with its number in the file, counted from 1; or what is wrong with it."""


@dataclass
class Sheet:
    """The rows of one split that could be read, and what was wrong with the others."""

    source: str
    """File or data set, for messages."""
    table: pa.Table
    """The columns in use."""
    numbers: list[int] | None = None
    """The number of each row in its file, from 1; None when none is missing."""
    faults: list[tuple[int, Fault]] = field(default_factory=list)
    """Rows that could not be read: number and fault."""
    untyped: bool = False
    """Whether numbers and lists are still strings, as in CSV."""

    def number(self, index: int) -> int:
        """Give the number in the file of the row at this index."""
        return index + 1 if self.numbers is None else self.numbers[index]

    def only(self, kept: Sequence[int]) -> Sheet:
        """Keep the rows at these indices."""
        numbers = [self.number(index) for index in kept]
        return replace(self, table=self.table.take(kept), numbers=numbers)


def read(path: Path, columns: Sequence[str], raw: Sequence[str] = ()) -> Sheet:
    """Read the named columns of a file; those of ``raw`` may hold bytes that are no text.

    Raises ``ValueError`` when the file cannot be read or lacks a column.
    """
    kind = path.suffix[1:]
    try:
        if kind == "parquet":
            return _parquet(path, columns, raw)
        with path.open("rb") as file:
            # Bytes that are no UTF-8 become lone surrogates, which `sheet` finds row by row.
            text = TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="")
            untyped = kind not in ("jsonl", "json")
            return sheet(str(path), _records(kind, text), columns, untyped)
    except (OSError, OverflowError, pa.ArrowException, csv.Error) as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error


def sheet(
    source: str, records: Iterable[Record], columns: Sequence[str], untyped: bool = False
) -> Sheet:
    """Make a table of rows given one by one, leaving out those that cannot stand in it.

    Raises ``ValueError`` when no row has one of the columns.
    """
    known: dict[str, None] = {}
    numbers: list[int] = []
    values: dict[str, list[Any]] = {column: [] for column in columns}
    faults: list[tuple[int, Fault]] = []
    for number, record in records:
        if isinstance(record, dict):
            known.update(dict.fromkeys(record))
            fault = _unreadable(record, columns)
        else:
            fault = record
        if fault is not None:
            faults.append((number, fault))
            continue
        numbers.append(number)
        for column in columns:
            values[column].append(record.get(column))  # type: ignore[union-attr]
    if known:
        need_columns(source, columns, list(known))
    strange = _strangers(values)
    if strange:
        faults += [(numbers[index], fault) for index, fault in strange.items()]
        kept = [index for index in range(len(numbers)) if index not in strange]
        numbers = [numbers[index] for index in kept]
        values = {column: [found[index] for index in kept] for column, found in values.items()}
    return Sheet(source, pa.table(values), numbers, sorted(faults, key=lambda f: f[0]), untyped)


def need_columns(source: str, columns: Sequence[str], known: Sequence[str]) -> None:
    """Raise ``ValueError`` when a column is missing."""
    missing = [column for column in columns if column not in known]
    if missing:
        named = ", ".join(repr(column) for column in missing)
        raise ValueError(
            f"{source} has no column {named}; its columns are {', '.join(map(repr, known))}."
            " Name the right column under `data`."
        )


def _records(kind: str, text: TextIOWrapper) -> Iterator[Record]:
    if kind in ("csv", "tsv"):
        return _separated(text, "," if kind == "csv" else "\t")
    if kind in ("conll", "conllu"):
        return conll.sentences(text, universal=kind == "conllu")
    return _json(text) if kind == "json" else _json_lines(text)


def _separated(text: TextIOWrapper, delimiter: str) -> Iterator[Record]:
    csv.field_size_limit(2**31 - 1)
    lines = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        names = next(lines, [])
        for number, cells in enumerate((line for line in lines if line), 1):
            if len(cells) == len(names):
                yield number, dict(zip(names, cells, strict=True))
            else:
                yield number, Fault("", cells, f"{len(names)} fields, as in the first line")
    except csv.Error as error:
        raise ValueError(
            f"{text.name}, line {lines.line_num}: {error}; expected a field that begins with a"
            ' quotation mark to end with one, and marks inside it to be doubled ("").'
        ) from error


def _json_lines(lines: Iterable[str]) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, _object(json.loads(line))
            except ValueError as error:  # also a number of more digits than Python reads
                yield number, Fault("", line.strip(), f"one JSON object a line ({error})")


def _json(text: TextIOWrapper) -> Iterator[Record]:
    whole = text.read()
    if whole.lstrip().startswith("{"):
        yield from _json_lines(whole.split("\n"))
        return
    try:
        found = json.loads(whole)
    except ValueError as error:  # also a number of more digits than Python reads
        raise ValueError(f"{text.name} is no JSON: {error}. Expected a list of objects.") from error
    if not isinstance(found, list):
        raise ValueError(f"{text.name} holds {type(found).__name__}; expected a list of objects.")
    for number, item in enumerate(found, 1):
        yield number, _object(item)


def _object(found: Any) -> dict[str, Any] | Fault:
    return found if isinstance(found, dict) else Fault("", found, "a JSON object")


def _parquet(path: Path, columns: Sequence[str], raw: Sequence[str]) -> Sheet:
    need_columns(str(path), columns, pq.read_schema(path).names)
    return from_arrow(str(path), pq.read_table(path, columns=list(columns)), raw)


def from_arrow(source: str, table: pa.Table, raw: Sequence[str] = ()) -> Sheet:
    """Take an Arrow table as it is, unless a string in it is no UTF-8; ``raw`` columns as such."""
    found = _of_texts(source, table.drop_columns(list(raw)))
    for name in raw:
        column = table.column(name)
        if found.numbers is not None:
            column = column.take([number - 1 for number in found.numbers])
        found.table = found.table.append_column(name, column)
    found.table = found.table.select(table.column_names)
    return found


def _of_texts(source: str, table: pa.Table) -> Sheet:
    binary = pa.schema([pa.field(f.name, _as_binary(f.type)) for f in table.schema])
    try:
        table.validate(full=True)
        if binary == table.schema.remove_metadata() and any(map(_holds_bytes, binary.types)):
            raise pa.ArrowInvalid("bytes are to be read as text")
    except pa.ArrowInvalid:
        rows = table.cast(binary).to_pylist()
        names = table.column_names
        return sheet(source, ((n, _decoded(row)) for n, row in enumerate(rows, 1)), names)
    return Sheet(source, table.replace_schema_metadata(None))


def _as_binary(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.large_binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.large_list(_as_binary(kind.value_type))
    return kind


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _holds_bytes(kind.value_type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _decoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if isinstance(value, dict):
        return {key: _decoded(item) for key, item in value.items()}
    return value


def _unreadable(row: dict[str, Any], columns: Sequence[str]) -> Fault | None:
    for column in columns:
        value = row.get(column)
        for part in value if isinstance(value, list) else (value,):
            if isinstance(part, int) and not _LEAST <= part <= _MOST:
                return Fault(column, part, f"a number from {_LEAST} to {_MOST}, or a text")
            if isinstance(part, str) and not part.isascii():
                try:
                    part.encode("utf-8")
                except UnicodeEncodeError:
                    return Fault(column, value, "text in UTF-8")
    return None


def _strangers(values: dict[str, list[Any]]) -> dict[int, Fault]:
    """Find values that are of another kind than most of their column: Arrow cannot hold them."""
    found: dict[int, Fault] = {}
    for column, cells in values.items():
        kinds = [_kind(cell) for cell in cells]
        counts = Counter(kind for kind in kinds if kind not in ("null", "list of "))
        if len(counts) < 2 and not (counts and "list of " in kinds):
            continue
        usual = counts.most_common(1)[0][0]
        for index, kind in enumerate(kinds):
            empty = kind == "null" or (kind == "list of " and usual.startswith("list"))
            if kind != usual and not empty:
                found[index] = Fault(column, cells[index], f"{usual}, as in most rows")
    return found


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return "list of " + "/".join(sorted({_kind(item) for item in value} - {"null"}))
    names = {bool: "true or false", int: "number", float: "number", str: "text", dict: "object"}
    return names.get(type(value), type(value).__name__)
