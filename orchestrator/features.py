"""Hidden states of a resting encoder: each text is read once, its states are kept on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orchestrator.batch import GIVEN, HIDDEN, Batch, Example
from tasks.head import Rows

Reads = Literal["summary", "words", "tokens"]


def kept_tokens(example: Example, reads: Reads, summary: str) -> NDArray[np.int64]:
    """Give the places of the tokens whose states a head reads (see ``Head.reads``), ascending."""
    ends = np.cumsum(example["sequences"])
    if reads == "tokens":
        return np.arange(ends[-1], dtype=np.int64)
    stands = ends - example["sequences"] if summary == "first" else ends - 1
    words = example["words"] if reads == "words" else []
    return np.union1d(stands, words).astype(np.int64)


def thinned(example: Example, places: NDArray[np.int64], hidden: NDArray[np.float32]) -> Example:
    """Leave of an example only these tokens, with their hidden states."""
    ends = np.cumsum(example["sequences"])
    counts = np.bincount(np.searchsorted(ends, places, "right"), minlength=len(ends))
    left: dict[str, Any] = {
        "input_ids": np.asarray(example["input_ids"])[places],
        "sequences": counts,
        "second": counts,
        "words": np.searchsorted(places, example["words"]) if len(example["words"]) else [],
        HIDDEN: hidden.reshape(-1),
    }
    if GIVEN in example:
        left[GIVEN] = example[GIVEN].reshape(int(ends[-1]), -1)[places].reshape(-1)
    return {**example, **left}


class Kept:
    """One split of one task whose examples bring their hidden states along."""

    def __init__(
        self,
        rows: Any,
        states: NDArray[np.float32],
        starts: Mapping[int, int],
        reads: Reads,
        summary: str,
    ) -> None:
        """``states [tokens, width]`` hold those of example i from ``starts[i]`` on."""
        self._rows, self._states, self._starts = rows, states, starts
        self._reads, self._summary = reads, summary

    def __getattr__(self, name: str) -> Any:
        """Be the split in all else."""
        return getattr(self._rows, name)

    def __len__(self) -> int:
        return len(self._rows)

    def example(self, index: int) -> Example:
        """Give what a head reads of an example."""
        own = self._rows.example(index)
        places = kept_tokens(own, self._reads, self._summary)
        start = self._starts[index]
        return thinned(own, places, self._states[start : start + len(places)])


def partly(
    encoder: Any,
    batch: Batch,
    ids: Tensor,
    added: Sequence[tuple[Tensor, Tensor]],
    known: Sequence[Rows],
    others: bool,
) -> Tensor:
    """Give the hidden states ``[tokens, width]``, those of ``known`` rows as these bring them.

    With ``others`` the encoder reads all other sequences, on every rank, be they none.
    """
    width = encoder.width
    hidden = torch.zeros(len(ids), width, device=ids.device)
    rest = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
    for rows in known:
        if HIDDEN in rows.columns:
            where = rows.tokens()
            hidden[where] = rows.columns[HIDDEN].view(-1, width)
            rest[where] = False
    if not others:
        return hidden
    lengths = batch.offsets.diff()
    lengths = lengths[rest[batch.offsets[:-1]]] if len(lengths) else lengths
    place = rest.cumsum(0) - 1
    read = encoder(
        *(batch.signals or (ids[rest], batch.type_ids[rest])),
        torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]),
        [(place[where], vectors) for where, vectors in added],
    )
    return hidden.to(read.dtype).index_put((rest.nonzero()[:, 0],), read)
