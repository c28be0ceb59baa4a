"""What a study found as files: a CSV for each table and figure, and all trials as Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.journal import replace_text
from orchestrator.studies.contrasts import Comparison
from orchestrator.studies.findings import Arm, Findings
from orchestrator.studies.lineages import Piece
from orchestrator.studies.study import Study

PARQUET = "results.parquet"
WHOLE = ("steps", "best_step", "score", "drift", "seconds", "error")
"""Of a result, taken as they are."""

Row = Mapping[str, Any]


def write(study: Study, found: Findings, folder: Path) -> list[str]:
    """Write all tables that there is something for into a folder; give their names."""
    tables: dict[str, list[Row]] = {
        "arms.csv": [_arm(own) for own in found.arms],
        "comparisons.csv": [_comparison(own) for own in (*found.declared, *found.exploratory)],
        "trials.csv": trials(study, found),
    }
    if found.matrix:
        tables["matrix.csv"] = [asdict(own) for own in found.matrix]
    if found.helpers:
        tables["helpers.csv"] = [asdict(own) for own in found.helpers]
    if found.curves:
        tables["curves.csv"] = [
            {"setting": own.setting, **asdict(point)}
            for own in found.curves
            for point in own.points
        ]
    if found.lineage:
        tables["lineage.csv"] = [_piece(own) for own in found.lineage]
    for name in ("matrix.csv", "helpers.csv", "curves.csv", "lineage.csv"):
        if name not in tables:
            (folder / name).unlink(missing_ok=True)
    for name, rows in tables.items():
        replace_text(folder / name, _csv(rows))
    _parquet(folder / PARQUET, tables["trials.csv"])
    return list(tables)


def trials(study: Study, found: Findings) -> list[Row]:
    """Give a row for each trial of each arm, in the order of asking; scores are on validation."""
    results = study.results()
    best = {own.hash: own.best for own in found.search.trials} if found.search else {}
    rows: list[Row] = []
    for own in study.asked:
        row: dict[str, Any] = {"arm": own.arm, "kind": own.kind, "seed": own.seed, "hash": own.hash}
        result = results.get(own.hash)
        row["status"] = result.status if result else "waiting"
        if result is not None:
            row |= {name: getattr(result, name) for name in WHOLE}
            row |= {"best_so_far": best.get(own.hash)} if best else {}
            row |= {
                f"{task}/{metric}": value
                for task, every in sorted(result.scores.items())
                for metric, value in sorted(every.items())
            }
            row |= {f"share/{task}": value for task, value in sorted(result.shares.items())}
            row |= {f"seen/{task}": n for task, n in sorted(result.examples_seen.items())}
            row |= {f"setting/{key}": value for key, value in sorted(result.settings.items())}
        rows.append(row)
    return rows


def _arm(own: Arm) -> Row:
    row = {
        key: value
        for key, value in asdict(own).items()
        if key not in ("tasks", "seeds", "values", "mains", "seen")
    }
    row |= {"tasks": " ".join(own.tasks), "seeds": " ".join(map(str, own.seeds))}
    row |= {f"main/{task}": value for task, value in sorted(own.mains.items())}
    return row | {f"seen/{task}": value for task, value in sorted(own.seen.items())}


def _comparison(own: Comparison) -> Row:
    row = {
        key: value
        for key, value in asdict(own).items()
        if key not in ("seeds", "differences", "spared")
    }
    row |= {"seeds": " ".join(map(str, own.seeds))}
    row |= {"differences": " ".join(f"{value:.6g}" for value in own.differences)}
    for spared in own.spared:
        row[f"other/{spared.task}"] = spared.mean
        row[f"other/{spared.task}/p_not_inferior"] = spared.p
    return row


def _piece(own: Piece) -> Row:
    row = {key: value for key, value in asdict(own).items() if key != "changes"}
    return row | {f"setting/{key}": value for key, value in sorted(own.changes.items())}


def _columns(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _csv(rows: Sequence[Row]) -> str:
    made = io.StringIO()
    writer = csv.DictWriter(made, _columns(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return made.getvalue()


def _parquet(file: Path, rows: Sequence[Row]) -> None:
    columns = {name: [row.get(name) for row in rows] for name in _columns(rows)}
    made = file.with_name(f".{file.name}.tmp")
    pq.write_table(pa.table(columns), made, compression="zstd")
    made.replace(file)
