"""Parts of a table of rows: a keyed limit, a validation split cut by text, and content digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tasks.family import Data, Family, Row
from tasks.media import CELL

SHARE = 0.1
"""Share of the training rows that make a validation split where there is none."""
FEWEST = 50
"""Rows that such a split has at least."""


CHUNK = 1024
"""Rows that are held as objects at a time; each may have a picture."""
_NAMES = {field.name for field in CELL}


@dataclass
class Splits:
    """The rows of one task as they are trained and scored: checked, cut, limited, gathered."""

    rows: dict[str, pa.Table]
    """``train``, ``validation`` and, where there is one, ``test``."""
    sources: dict[str, str]
    """The file or data set of each split, for messages."""
    numbers: dict[str, list[int] | None]
    """The number of each row in its file, from 1; None where that is its place."""
    set_aside: dict[str, int] = field(default_factory=dict)
    """Bad rows left out, up to ``data.max_bad_rows`` a split."""
    strange: dict[str, int] = field(default_factory=dict)
    """Rows of validation and test whose label is outside the label set; they count as missed."""
    unlabelled: dict[str, int] = field(default_factory=dict)
    """Rows left out because they have nothing where the task's answer should stand."""
    notes: list[str] = field(default_factory=list)
    """What the user should be told once."""
    digests: dict[str, str] = field(default_factory=dict)
    """sha256 over the rows of each split: their values in order, whatever file held them."""

    def each(self, split: str) -> Iterator[dict[str, Any]]:
        """Give the rows of a split one by one, without holding them all as objects."""
        return each(self.rows[split])

    def place(self, split: str, index: int) -> str:
        """Say where a row stands: ``train.csv, row 17``."""
        numbers = self.numbers[split]
        return f"{self.sources[split]}, row {index + 1 if numbers is None else numbers[index]}"


def each(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Give the rows of a table one by one."""
    for batch in table.to_batches(max_chunksize=CHUNK):
        yield from batch.to_pylist()


def digest(table: pa.Table) -> str:
    """Hash the values of all rows in order, whatever file they came from."""
    found = hashlib.sha256()
    unlike = [_may_be_written_otherwise(kind) for kind in table.schema.types]
    for batch in table.to_batches(max_chunksize=CHUNK):
        columns = [column.to_pylist() for column in batch.columns]
        columns = [
            [_plain(value) for value in column] if otherwise else column
            for column, otherwise in zip(columns, unlike, strict=True)
        ]
        for row in zip(*columns, strict=True):
            found.update(_line(row))
    return found.hexdigest()


def limited(table: pa.Table, data: Data, task: str, seed: int) -> list[int] | None:
    """Choose the rows that ``data.limit`` keeps, in the order of the table; None for all.

    They are the first of an order keyed by seed and task, so smaller limits nest in larger ones.
    With ``data.group`` the limit counts groups. Rows are known by their content, not their place.
    """
    if data.limit is None:
        return None
    column = data.group
    keys = [_line(_plain(row[column] if column else list(row.values()))) for row in each(table)]
    rank = {key: keyed(key, seed, "limit", task) for key in set(keys)}
    if column:
        chosen = set(sorted(rank, key=rank.__getitem__)[: data.limit])
        return [index for index, key in enumerate(keys) if key in chosen]
    order = sorted(range(len(keys)), key=lambda index: (rank[keys[index]], index))
    return sorted(order[: data.limit])


def cut(table: pa.Table, family: Family[Any], task: str, seed: int) -> tuple[list[int], list[int]]:
    """Divide training rows into those that stay and a validation split, both in order.

    Rows with the same texts, and rows of the same group, stay together. Raises ``ValueError``
    when there are too few rows, or too few groups, to do so.
    """
    members = list(_together(table, family).values())
    rank = {names: keyed(names, seed, "validation", task) for names, _ in members}
    wanted = max(FEWEST, round(SHARE * table.num_rows))
    taken: list[int] = []
    for _, rows in sorted(members, key=lambda member: rank[member[0]]):
        if len(taken) < wanted and len(rows) <= wanted:
            taken += rows
    if len(taken) < wanted or len(taken) == table.num_rows:
        raise ValueError(
            f"there is no validation split, and {table.num_rows} training rows in {len(members)}"
            f" groups of equal texts are too few to cut {wanted} rows from; add a validation file"
        )
    out = set(taken)
    return [index for index in range(table.num_rows) if index not in out], sorted(taken)


def _together(table: pa.Table, family: Family[Any]) -> dict[int, tuple[bytes, list[int]]]:
    """Find rows that share texts or a group, as {first row: (least name of the set, rows)}."""
    group = family.data.group
    parent: list[int] = list(range(table.num_rows))
    first: dict[bytes, int] = {}
    names: list[bytes] = []

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for index, row in enumerate(each(table)):
        keys = [b"t" + hashlib.sha256(_line(family.texts(row))).digest()]
        if group:
            keys.append(b"g" + hashlib.sha256(_line(_plain(row[group]))).digest())
        names.append(min(keys))
        for key in keys:
            a, b = sorted((root(first.setdefault(key, index)), root(index)))
            parent[b] = a
    found: dict[int, tuple[bytes, list[int]]] = {}
    for index, name in enumerate(names):
        least, rows = found.setdefault(root(index), (name, []))
        rows.append(index)
        found[root(index)] = (min(least, name), rows)
    return found


def gathered(table: pa.Table, family: type[Family[Any]], data: Data, whole: pa.Table) -> pa.Table:
    """Let a family add columns that depend on other rows of the split's file (``whole``)."""
    if family.gather.__func__ is Family.gather.__func__:  # type: ignore[attr-defined]
        return table
    rows: Sequence[Row] = family.gather(data, list(each(table)), each(whole))
    assert len(rows) == table.num_rows, f"{family.__name__}.gather changed the number of rows"
    return pa.Table.from_pylist([dict(row) for row in rows]) if rows else table


def keyed(key: bytes, seed: int, purpose: str, task: str) -> bytes:
    """Give a rank that looks random, of what is known by ``key``: 32 bytes."""
    return hashlib.sha256(f"{seed}|{purpose}|{task}|".encode() + key).digest()


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=repr).encode() + b"\n"


def _may_be_written_otherwise(kind: pa.DataType) -> bool:
    if kind == CELL:
        return True
    if pa.types.is_nested(kind):
        return any(_may_be_written_otherwise(kind.field(i).type) for i in range(kind.num_fields))
    return pa.types.is_floating(kind)


def _plain(value: Any) -> Any:
    """Write 2.0 as 2, as formats differ in which of the two they keep; and a file as its digest."""
    if isinstance(value, dict) and value.keys() == _NAMES:
        return value["sha256"]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value
