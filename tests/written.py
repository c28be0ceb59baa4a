"""Rows written to files in every format, and loaded as those of a task."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import rows
from tasks.classify import Classify
from tasks.family import Family


def write(folder: Path, **splits: list[dict[str, Any]]) -> Path:
    """Write splits as JSON lines."""
    folder.mkdir(exist_ok=True, parents=True)
    for split, found in splits.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def save(path: Path, found: list[dict[str, Any]]) -> None:
    """Write rows in the format that the name asks for."""
    kind = path.suffix
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(found), path)
    elif kind == ".json":
        path.write_text(json.dumps(found))
    elif kind == ".jsonl":
        path.write_text("\ufeff" + "\n".join(map(json.dumps, found)) + "\n\n", encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, found[0], delimiter="," if kind == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(found)


def load(
    folder: Path, family: type[Family] = Classify, seed: int = 0, name: str = "topic", **data: Any
) -> tuple[dict[str, Any], rows.Splits]:
    keys = family.Data(path=str(folder), **data)
    return rows.load(name, family, keys, [folder.parent], seed)


def sentences(count: int, labels: int = 3) -> list[dict[str, Any]]:
    return [{"text": f"text number {i}", "label": f"l{i % labels}"} for i in range(count)]


def texts(found: rows.Splits, split: str) -> list[str]:
    return [row["text"] for row in found.each(split)]
