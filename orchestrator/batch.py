"""Examples of several tasks, packed into one flat batch without padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.family import Family, Rows

Example = Mapping[str, Any]
"""The columns of one tokenised example (see ``tokens.py``), as arrays."""

OWN = "c_"
"""Prefix of a family's own columns among those of an example."""


@dataclass(frozen=True)
class Batch:
    """One micro-batch: the sequences of all its rows, one after the other."""

    input_ids: Tensor
    """``[tokens]``"""
    type_ids: Tensor
    """``[tokens]``: 1 in the second text of a pair, else 0."""
    offsets: Tensor
    """``[sequences + 1]``: where each sequence begins."""
    rows: dict[str, Rows]
    """Each task's rows, in sorted order of the tasks; all tasks of the run, also those absent."""
    weight: float = 1.0
    """0 for a batch that only keeps this rank in step with the others."""
    twice: Mapping[str, float] = field(default_factory=dict)
    """Tasks whose rows are here twice, all of them and then all again, each with the strength of
    R-Drop (see ``tasks/agreement.py``)."""

    def to(self, device: torch.device) -> Batch:
        """Move every tensor to a device."""
        moved = {task: _rows_to(rows, device) for task, rows in self.rows.items()}
        return replace(
            self,
            input_ids=self.input_ids.to(device, non_blocking=True),
            type_ids=self.type_ids.to(device, non_blocking=True),
            offsets=self.offsets.to(device, non_blocking=True),
            rows=moved,
        )


def _rows_to(rows: Rows, device: torch.device) -> Rows:
    return Rows(
        rows.sequences.to(device),
        rows.starts.to(device),
        rows.lengths.to(device),
        rows.summary.to(device),
        rows.words.to(device),
        rows.word_counts.to(device),
        {name: column.to(device) for name, column in rows.columns.items()},
        {name: count.to(device) for name, count in rows.counts.items()},
    )


def collate(
    examples: Mapping[str, Sequence[Example]],
    families: Mapping[str, Family],
    summary: str,
    weight: float = 1.0,
    twice: Mapping[str, float] | None = None,
) -> Batch:
    """Pack the examples of each task; ``summary`` is ``first`` or ``last`` (see ``Encoder``).

    The tasks in ``twice`` have each example read two times (see ``Batch``).
    """
    twice = twice or {}
    examples = {t: [*own, *own] if t in twice else own for t, own in examples.items()}
    flat = [example for task in sorted(families) for example in examples.get(task, ())]
    lengths = _joined([e["sequences"] for e in flat])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    second = _joined([e["second"] for e in flat])
    places = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    rows, first = {}, 0
    for task in sorted(families):
        own = examples.get(task, ())
        count = sum(len(e["sequences"]) for e in own)
        rows[task] = _rows(own, families[task], offsets[first : first + count + 1], summary)
        first += count
    return Batch(
        torch.from_numpy(_joined([e["input_ids"] for e in flat])),
        torch.from_numpy((places >= np.repeat(second, lengths)).astype(np.int64)),
        torch.from_numpy(offsets),
        rows,
        weight,
        twice,
    )


def _rows(examples: Sequence[Example], family: Family, offsets: Any, summary: str) -> Rows:
    """``offsets`` are those of the task's sequences, with the end of the last."""
    starts, ends = offsets[:-1], offsets[1:]
    lengths = np.array([len(e["input_ids"]) for e in examples], dtype=np.int64)
    base = (offsets[0] if len(offsets) else 0) + np.cumsum(lengths) - lengths
    words = [np.asarray(e["words"], np.int64) + b for e, b in zip(examples, base, strict=True)]
    columns, counts = {}, {}
    for name, dtype in family.columns.items():
        parts = [np.asarray(e[OWN + name]) for e in examples]
        columns[name] = torch.from_numpy(_joined(parts)).to(dtype)
        counts[name] = torch.tensor([len(part) for part in parts], dtype=torch.int64)
    return Rows(
        sequences=torch.tensor([len(e["sequences"]) for e in examples], dtype=torch.int64),
        starts=torch.from_numpy(np.array(starts)),
        lengths=torch.from_numpy(np.array(ends - starts)),
        summary=torch.from_numpy(np.array(starts if summary == "first" else ends - 1)),
        words=torch.from_numpy(_joined(words)),
        word_counts=torch.from_numpy(_joined([e["word_counts"] for e in examples])),
        columns=columns,
        counts=counts,
    )


def _joined(parts: Sequence[Any]) -> Any:
    """Concatenate arrays, also none; whole numbers become int64."""
    whole = np.concatenate(parts) if parts else np.empty(0, np.int64)
    return whole.astype(np.int64 if whole.dtype.kind in "iub" else np.float32)
