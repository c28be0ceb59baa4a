"""Tokenised rows, read by index through a memory map of the Arrow file that holds them."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator import keyed
from tasks.media import CELL, Media

OWN = "c_"
"""Prefix of a family's own columns."""
MEDIA = pa.schema(CELL)
"""Columns of a picture or a sound, of which ``input_ids`` says nothing."""
PACKING = ("input_ids", "sequences", "second", "words", "word_counts")
"""Lists that every example has; see ``Split.example``."""


@dataclass(frozen=True)
class Counts:
    """What a file of tokens holds."""

    rows: int
    tokens: int
    terms: int
    """Terms of the loss sum over all rows."""
    truncated: int
    """Rows with a text that was cut to the greatest length."""
    longest: int
    """Tokens of the longest row."""


def whole(file: Path) -> bool:
    """Say whether a file is there and as long as it was when it was finished."""
    try:
        meta = json.loads((file.parent / "meta.json").read_text(encoding="utf-8"))
        return bool(meta["bytes"] == file.stat().st_size)
    except (OSError, ValueError, KeyError):
        return False


class Split:
    """A file of tokens, open for reading by index; its pages belong to the system, not to us."""

    def __init__(self, path: Path | str) -> None:
        """Raises ``LookupError`` when the file is not there whole."""
        self.path = Path(path)
        self.name = self.path.stem
        if not whole(self.path):
            raise LookupError(
                f"{self.path} is missing or cut short; expected tokens that `prepare` made."
                " Start the run from its experiment again, which makes them anew."
            )
        meta = json.loads((self.path.parent / "meta.json").read_text(encoding="utf-8"))
        self.counts = Counts(**{key: meta[key] for key in Counts.__dataclass_fields__})
        file = pa.ipc.open_file(pa.memory_map(str(self.path)))
        self._batches = [file.get_batch(place) for place in range(file.num_record_batches)]
        self._media = set(MEDIA.names) <= set(file.schema.names)
        self._lists = [name for name in file.schema.names if name in PACKING or name[:2] == OWN]
        sizes = [batch.num_rows for batch in self._batches]
        self._starts = np.cumsum([0, *sizes]).tolist()
        self._views: list[list[tuple[str, NDArray[Any], NDArray[Any]]] | None] = [None] * len(sizes)

    def __reduce__(self) -> tuple[type[Split], tuple[Path]]:
        """Travel as a path: the other process maps the file itself."""
        return Split, (self.path,)

    def __len__(self) -> int:
        return self.counts.rows

    @cached_property
    def lengths(self) -> NDArray[np.int32]:
        """``[rows]``: tokens of each example."""
        return self._flat("length")

    @cached_property
    def terms(self) -> NDArray[np.int32]:
        """``[rows]``: terms of each example's loss sum."""
        return self._flat("terms")

    @cached_property
    def contents(self) -> NDArray[np.uint64]:
        """``[rows]``: a hash of each example's tokens, the same in every split and process."""
        parts = [np.empty(0, np.uint64)]
        for batch in self._batches:
            if self._media:
                names = batch.column("sha256").to_pylist()
                parts.append(np.array([int(name[:16], 16) for name in names], np.uint64))
                continue
            column = batch.column("input_ids")
            ends, tokens = column.offsets.to_numpy(), column.values.to_numpy().astype(np.uint64)
            place = np.arange(len(tokens)) - np.repeat(ends[:-1], np.diff(ends))
            mixed = keyed.mixed(keyed.mixed(tokens + np.uint64(1)) + place.astype(np.uint64))
            total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
            parts.append(total[ends[1:]] - total[ends[:-1]])
        return np.concatenate(parts)

    @cached_property
    def texts(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """``[texts]``: a hash of each text of each example, and the example that it stands in."""
        values, rows = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
        for batch, first in zip(self._batches, self._starts, strict=False):
            column = batch.column("texts")
            ends = column.offsets.to_numpy()
            values.append(column.values.to_numpy()[ends[0] : ends[-1]])
            rows.append(np.repeat(np.arange(len(column)) + first, np.diff(ends)))
        return np.concatenate(values), np.concatenate(rows)

    def _flat(self, column: str) -> NDArray[np.int32]:
        parts = [batch.column(column).to_numpy() for batch in self._batches]
        if len(parts) == 1:
            return cast(NDArray[np.int32], parts[0])
        return np.concatenate([np.empty(0, np.int32), *parts])

    def example(self, index: int) -> dict[str, Any]:
        """Give the lists of one example, as views into the file.

        ``input_ids [tokens]`` of all its sequences; ``sequences`` and ``second [sequences]``;
        ``words [words]``, first tokens counted from the example's first; ``word_counts
        [sequences]``; and the family's columns under ``OWN``. A picture or a sound stands under
        ``media``, and numbers of its own where token ids would.
        """
        batch, row = self._find(index)
        views = self._views[batch]
        if views is None:
            columns = [(name, self._batches[batch].column(name)) for name in self._lists]
            views = [(n, c.values.to_numpy(), c.offsets.to_numpy()) for n, c in columns]
            self._views[batch] = views
        found: dict[str, Any] = {n: values[ends[row] : ends[row + 1]] for n, values, ends in views}
        if self._media:
            whole = self._batches[batch]
            media = Media({name: whole.column(name)[row].as_py() for name in MEDIA.names})
            found |= {"media": media, "input_ids": media.ids(int(found["sequences"].sum()))}
        return found

    def gold(self, index: int) -> Any:
        """Give the true answer of one example; only validation and test have it."""
        batch, row = self._find(index)
        return json.loads(self._batches[batch].column("gold")[row].as_py())

    def _find(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path} has {len(self)} examples; there is no example {index}")
        batch = bisect_right(self._starts, index) - 1
        return batch, index - self._starts[batch]
