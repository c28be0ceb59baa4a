"""Examples of several tasks, packed into one flat batch without padding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.family import Family, Rows

Example = Mapping[str, Any]
"""The columns of one tokenised example (see ``tokens.py``), as arrays."""

HIDDEN, GIVEN = "hidden", "given"
"""Columns of numbers for each token, ``[tokens * n]`` flat, which rows may bring along: hidden
states (see ``features.py``), and what helpers said out of fold (see ``stacking.py``)."""

OWN = "c_"
"""Prefix of a family's own columns among those of an example."""


Signals = Callable[[Sequence[Any], Sequence[int]], tuple[Tensor, ...]]
"""Opens pictures or sounds of so many tokens each (see ``encoders/media.py``)."""


@dataclass(frozen=True)
class Batch:
    """One micro-batch: the sequences of all its rows, one after the other.

    Rows of several tasks may stand for the same sequences.
    """

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
    signals: tuple[Tensor, ...] = ()
    """What the encoder reads in place of token ids, where that is pictures or sounds: those of all
    sequences whose hidden states are not known."""

    def to(self, device: torch.device) -> Batch:
        """Move every tensor to a device."""
        moved = {task: _rows_to(rows, device) for task, rows in self.rows.items()}
        return replace(
            self,
            input_ids=self.input_ids.to(device, non_blocking=True),
            type_ids=self.type_ids.to(device, non_blocking=True),
            offsets=self.offsets.to(device, non_blocking=True),
            rows=moved,
            signals=tuple(signal.to(device, non_blocking=True) for signal in self.signals),
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
    sharing: Collection[str] = (),
    twice: Mapping[str, float] | None = None,
    signals: Signals | None = None,
) -> Batch:
    """Pack the examples of each task; ``summary`` is ``first`` or ``last`` (see ``Encoder``).

    What examples of different tasks have in common is read once, if these are among ``sharing``.
    The tasks in ``twice`` have each example read two times (see ``Batch``). ``signals`` opens
    pictures or sounds, where that is what the encoder reads.
    """
    twice = twice or {}
    examples = {t: [*own, *own] if t in twice else own for t, own in examples.items()}
    flat, starts = _laid(examples, sorted(families), sharing)
    lengths = _joined([e["sequences"] for e in flat])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    second = _joined([e["second"] for e in flat])
    places = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    return Batch(
        torch.from_numpy(_joined([e["input_ids"] for e in flat])),
        torch.from_numpy((places >= np.repeat(second, lengths)).astype(np.int64)),
        torch.from_numpy(offsets),
        {t: _rows(examples.get(t, ()), families[t], starts[t], summary) for t in starts},
        weight,
        twice,
        _opened([e for e in flat if HIDDEN not in e], signals) if signals else (),
    )


def _opened(examples: Sequence[Example], signals: Signals) -> tuple[Tensor, ...]:
    return signals([e["media"] for e in examples], [len(e["input_ids"]) for e in examples])


def _laid(
    examples: Mapping[str, Sequence[Example]], tasks: Sequence[str], sharing: Collection[str]
) -> tuple[list[Example], dict[str, list[int]]]:
    """Give the examples that are read, and the first token of each task's own.

    Of one task's equal examples each is read: they may differ in what is drawn at random.
    """
    several = sum(bool(examples.get(task)) for task in sharing) > 1
    read: list[Example] = []
    starts: dict[str, list[int]] = {}
    known: dict[tuple[bytes, int], int] = {}
    end = 0
    for task in tasks:
        starts[task] = []
        met: Counter[bytes] = Counter()
        for example in examples.get(task, ()):
            start = end
            if several and task in sharing and HIDDEN not in example:
                content = _content(example)
                start = known.setdefault((content, met[content]), end)
                met[content] += 1
            starts[task].append(start)
            if start == end:
                read.append(example)
                end += len(example["input_ids"])
    return read, starts


def _content(example: Example) -> bytes:
    """Give all that an encoder reads of an example."""
    parts = (np.asarray(example[name], np.int32) for name in ("input_ids", "sequences", "second"))
    return b"".join(len(part).to_bytes(4, "little") + part.tobytes() for part in parts)


def _rows(examples: Sequence[Example], family: Family, first: Sequence[int], summary: str) -> Rows:
    """``first`` is the place of each example's first token."""
    words = [np.asarray(e["words"], np.int64) + f for e, f in zip(examples, first, strict=True)]
    ends = [np.cumsum(e["sequences"]) + f for e, f in zip(examples, first, strict=True)]
    lengths, ends = _joined([e["sequences"] for e in examples]), _joined(ends)
    starts = ends - lengths
    columns, counts = {}, {}
    for name, dtype in family.columns.items():
        parts = [np.asarray(e[OWN + name]) for e in examples]
        columns[name] = torch.from_numpy(_joined(parts)).to(dtype)
        counts[name] = torch.tensor([len(part) for part in parts], dtype=torch.int64)
    for name in (HIDDEN, GIVEN):
        if examples and name in examples[0]:
            columns[name] = torch.from_numpy(_joined([e[name] for e in examples]))
    return Rows(
        sequences=torch.tensor([len(e["sequences"]) for e in examples], dtype=torch.int64),
        starts=torch.from_numpy(starts),
        lengths=torch.from_numpy(lengths),
        summary=torch.from_numpy(starts if summary == "first" else ends - 1),
        words=torch.from_numpy(_joined(words)),
        word_counts=torch.from_numpy(_joined([e["word_counts"] for e in examples])),
        columns=columns,
        counts=counts,
    )


def _joined(parts: Sequence[Any]) -> Any:
    """Concatenate arrays, also none; whole numbers become int64."""
    whole = np.concatenate(parts) if parts else np.empty(0, np.int64)
    return whole.astype(np.int64 if whole.dtype.kind in "iub" else np.float32)
