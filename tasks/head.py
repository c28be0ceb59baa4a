"""Where tensors meet a task: its rows in a packed batch, and its own layers on the encoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn


@dataclass
class Rows:
    """The rows of one task inside a packed batch. All indices point into the packed tokens.

    A row is one or more *sequences* (two for a marked sentence and its plain copy, several for
    windows over a long text). With zero rows every tensor is empty; heads must then still touch
    all their parameters, so that every rank computes the same set of gradients.
    """

    sequences: Tensor
    """``[rows]``: number of sequences of each row."""
    starts: Tensor
    """``[sequences]``: the first token of each."""
    lengths: Tensor
    """``[sequences]``: tokens of each."""
    summary: Tensor
    """``[sequences]``: the token that stands for the whole sequence (first, or last for GPT-2)."""
    words: Tensor
    """``[words]``: the first token of each word, in order of rows, sequences, words."""
    word_counts: Tensor
    """``[sequences]``: words of each sequence."""
    columns: dict[str, Tensor] = field(default_factory=dict)
    """The family's own columns, flat over the rows."""
    counts: dict[str, Tensor] = field(default_factory=dict)
    """``[rows]``: how many entries of each column belong to each row."""
    unasked: Tensor | None = None
    """``[tokens, width]``: the hidden states without what helpers say once they are told a row's
    question (its predicate), for a head that has to find that itself. None: they are the same."""

    def __len__(self) -> int:
        return len(self.sequences)

    def tokens(self) -> Tensor:
        """Give the place of every token of these rows, sequence after sequence."""
        first = self.lengths.cumsum(0) - self.lengths
        behind = (self.starts - first).repeat_interleave(self.lengths)
        return torch.arange(len(behind), device=behind.device) + behind


class Head(nn.Module):
    """One task's own layers: ``forward(hidden [tokens, width], rows)`` gives the outputs."""

    marks: ClassVar[tuple[str, ...]] = ()
    """Names of the layers that ``inputs`` uses."""
    reads: ClassVar[Literal["summary", "words", "tokens"] | None] = "tokens"
    """Of which tokens it reads the hidden states: what stands for each sequence; that and the
    first token of each word; all. None: what the encoder reads is drawn anew each time."""

    def replaced(self, input_ids: Tensor, rows: Rows) -> tuple[Tensor, Rows]:
        """Give the packed ``input_ids [tokens]`` as the encoder is to read them.

        Comes before all else in a forward. The rows it gives stand for these in what follows.
        """
        return input_ids, rows

    def inputs(self, rows: Rows) -> tuple[Tensor, Tensor] | None:
        """Give vectors to add to the input embeddings: positions ``[n]`` and ``[n, width]``."""
        return None
