"""What each row of a split adds to its task's main score, for one trial; the test's is sealed.

A file has a row for each example: task, item (its place in the split), group (equal for rows on
the same text), parts (see ``Family.parts``). In a study nothing opens those of the test split but
``opened``, which leaves a record in ``study.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from orchestrator.studies.study import Study

SCHEMA = pa.schema(
    {
        "task": pa.string(),
        "item": pa.int64(),
        "group": pa.int64(),
        "parts": pa.list_(pa.float64()),
    }
)


@dataclass(frozen=True)
class Items:
    """Of one task in one trial."""

    item: NDArray[np.int64]
    """``[rows]``: place in the split."""
    group: NDArray[np.int64]
    """``[rows]``: equal for rows on the same text."""
    parts: NDArray[np.float64]
    """``[rows, n]``."""

    def grouped(self) -> NDArray[np.float64]:
        """Add up the parts of each group, ``[groups, n]``, by rising group."""
        _, places = np.unique(self.group, return_inverse=True)
        found = np.zeros((int(places.max(initial=-1)) + 1, self.parts.shape[1]))
        np.add.at(found, places, self.parts)
        return found


def write(trial: Path, split: str, found: Mapping[str, Items]) -> None:
    """Write the items of a split into a trial's folder."""
    tables = [
        pa.table(
            {
                "task": [task] * len(own.item),
                "item": own.item,
                "group": own.group,
                "parts": list(own.parts),
            },
            SCHEMA,
        )
        for task, own in sorted(found.items())
    ]
    file = trial / f"items-{split}.parquet"
    made = file.with_name(f".{file.name}.tmp")
    pq.write_table(pa.concat_tables([SCHEMA.empty_table(), *tables]), made, compression="zstd")
    made.replace(file)


def validation(trial: Path) -> dict[str, Items]:
    """Read the items of the validation split, by task."""
    return _read(trial / "items-validation.parquet")


def opened(study: Study, by: str) -> dict[str, dict[str, Items]]:
    """Open the test items of all finished trials, by hash and task, and leave a record of it."""
    study.opened(by)
    return {
        digest: _read(study.trial(digest) / "items-test.parquet")
        for digest, own in study.results().items()
        if own.status == "finished"
    }


def _read(file: Path) -> dict[str, Items]:
    table = pq.read_table(file)
    tasks = np.array(table["task"].to_pylist())
    item, group = (table[name].to_numpy() for name in ("item", "group"))
    parts = table["parts"].to_pylist()
    found = {}
    for task in dict.fromkeys(tasks.tolist()):
        own = np.nonzero(tasks == task)[0]
        values = np.array([parts[i] for i in own], np.float64)
        found[task] = Items(item[own], group[own], values)
    return found
