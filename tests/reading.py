"""A real tokenizer over few words, and a small encoder, for the tests of families."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from encoders import tiny
from encoders.tokenizer import Reader
from orchestrator.batch import OWN, Batch, collate
from tasks.family import Family, Head, Row

SENTENCES = [
    "the old dog saw a small bird near the river",
    "she did not like the long film at all",
    "Ann gave Bob the book that he had asked for",
    "two men were running home because rain fell",
]
WIDTH = 32


def reader() -> Reader:
    """Train a vocabulary on the sentences."""
    return tiny.reader(lambda: SENTENCES)


def fitted(family: type[Family[Any]], rows: Sequence[Row], **options: Any) -> Family[Any]:
    """Build a family on rows read once, as from a stream."""
    data = {name: options.pop(name) for name in list(options) if name in family.Data.model_fields}
    keys = family.Data(path="rows", **data)
    found = family.fit(keys, iter(rows)) | family.consult(keys, Path) | family.reading(reader())
    return family(keys, found, **options)


def example(
    family: Family[Any], row: Row, reads: Reader, limit: int | None = None
) -> dict[str, Any]:
    """Tokenise one row."""
    encoded = reads(family.texts(row), limit or family.data.max_length)
    base, words = 0, []
    for sequence in encoded:
        words += [base + word for word in sequence.words]
        base += len(sequence.input_ids)
    columns = family.encode(row, encoded)
    assert set(columns) == set(family.columns)
    return {
        "input_ids": np.concatenate([sequence.input_ids for sequence in encoded]),
        "sequences": np.array([len(sequence.input_ids) for sequence in encoded]),
        "second": np.array([sequence.second for sequence in encoded]),
        "words": np.array(words, np.int64),
        "word_counts": np.array([len(sequence.words) for sequence in encoded]),
        "terms": family.terms(row, columns),
        **{OWN + name: np.array(column) for name, column in columns.items()},
    }


def packed(
    family: Family[Any], rows: Sequence[Row], reads: Reader, limit: int | None = None
) -> tuple[Batch, int]:
    """Pack rows into a batch with the one task ``task``; gives the number of terms beside it."""
    found = [example(family, row, reads, limit) for row in rows]
    return collate({"task": found}, {"task": family}, "first"), sum(e["terms"] for e in found)


class Little(nn.Module):
    """An encoder that knows tokens and their places, so that a head can learn any rows."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head
        self.embed = nn.Embedding(400, WIDTH)
        self.place = nn.Embedding(64, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, batch: Batch) -> Any:
        """Give the head's output."""
        ids, rows = self.head.replaced(batch.input_ids, batch.rows["task"])
        lengths = batch.offsets.diff()
        sequence = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        places = torch.arange(len(sequence)) - batch.offsets[sequence]
        hidden = self.embed(ids) + self.place(places)
        if (added := self.head.inputs(rows)) is not None:
            hidden = hidden.index_add(0, *added)
        total = hidden.new_zeros(len(lengths), WIDTH).index_add(0, sequence, hidden)
        mean = (total / lengths[:, None])[sequence]
        return self.head(self.norm(hidden + self.mix(hidden + mean).tanh()), rows)
