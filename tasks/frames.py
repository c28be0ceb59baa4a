"""The head that finds the predicates of a sentence and labels their arguments."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.head import Head, Rows
from tasks.helper import Kind

REACH = 16
"""Distances to the predicate beyond this many words look alike."""


class Layout(NamedTuple):
    """Which words of a batch ask for roles, and which whether they are predicates."""

    roles: Tensor
    """``[words]``: belongs to a sequence with a predicate."""
    finding: Tensor
    """``[words]``: belongs to a sequence in which predicates are looked for."""
    token: Tensor
    """``[role words]``: the first token of the sequence's predicate."""
    distance: Tensor
    """``[role words]``: words behind the predicate, from -REACH to REACH, plus REACH."""


class RolesHead(Head):
    """Two layers on a word, its predicate and their distance; one layer that finds predicates.

    Adding three projections is one dense layer on their concatenation (Shi and Lin 2019,
    arXiv:1904.05255, who concatenate word and predicate), computed once a predicate.
    """

    marks = ("mark",)
    reads = "words"

    def __init__(self, width: int, classes: int, dropout: float, marked: bool) -> None:
        super().__init__()
        self.marked = marked
        if marked:
            self.mark = nn.Embedding(1, width)
            nn.init.normal_(self.mark.weight, std=0.02)
        self.dropout = nn.Dropout(dropout)
        self.word = nn.Linear(width, width)
        self.predicate = nn.Linear(width, width, bias=False)
        self.distance = nn.Embedding(2 * REACH + 1, width)
        nn.init.normal_(self.distance.weight, std=0.02)
        self.out = nn.Linear(width, classes)
        self.find = nn.Linear(width, 2)

    def inputs(self, rows: Rows) -> tuple[Tensor, Tensor] | None:
        """Mark the first token of each predicate."""
        if not self.marked:
            return None
        at = rows.columns["predicate"]
        first = rows.word_counts.cumsum(0) - rows.word_counts
        shown = at >= 0
        positions = rows.words[(first + at)[shown]]
        return positions, self.mark(torch.zeros_like(positions))

    def forward(self, hidden: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Give role logits ``[role words, labels]`` and predicate logits ``[finding words, 2]``."""
        plan = layout(rows, self.marked)
        state = self.states(hidden[rows.words], hidden, plan)
        unasked = hidden if rows.unasked is None else rows.unasked
        found = self.find(self.dropout(unasked[rows.words[plan.finding]]))
        return self.out(self.dropout(state)), found

    def states(self, words: Tensor, hidden: Tensor, plan: Layout) -> Tensor:
        """Give what the layer of roles reads, ``[role words, width]``; ``words [words, width]``."""
        state = self.word(self.dropout(words[plan.roles]))
        state = state + self.predicate(self.dropout(hidden[plan.token]))
        return functional.gelu(state + self.distance(plan.distance))


def layout(rows: Rows, marked: bool) -> Layout:
    """Read off the columns what each word asks for."""
    counts, at = rows.word_counts, rows.columns["predicate"]
    first = counts.cumsum(0) - counts
    sequence = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    roles = (at >= 0)[sequence]
    finding = ~roles if marked else torch.ones_like(roles)
    own = sequence[roles]
    place = torch.arange(len(sequence), device=counts.device)[roles] - first[own]
    distance = (place - at[own]).clamp(-REACH, REACH) + REACH
    return Layout(roles, finding, rows.words[first[own] + at[own]], distance)


def said(head: RolesHead, hidden: Tensor, rows: Rows, kind: Kind) -> Tensor:
    """Give what a head that needs no mark says of each word, ``[words, labels]`` (or ``width``).

    The predicates are those that the rows name, one a sequence or none (-1), and otherwise those
    that the head finds. Of several, a word has the greatest of each number; of none, zeros.
    """
    counts, at = rows.word_counts, rows.columns["predicate"]
    first = counts.cumsum(0) - counts
    sequence = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    if len(at) == len(counts):
        asked = (at >= 0).nonzero()[:, 0]
        place = at[asked]
    else:
        words = head.find(hidden[rows.words]).argmax(1).nonzero()[:, 0]
        asked = sequence[words]
        place = words - first[asked]
    many = counts[asked]
    start = (first[asked] - (many.cumsum(0) - many)).repeat_interleave(many)
    word = torch.arange(len(start), device=start.device) + start
    copies = replace(rows, words=rows.words[word], word_counts=many, columns={"predicate": place})
    found = head.states(hidden[copies.words], hidden, layout(copies, marked=False))
    if kind != "hidden":
        found = head.out(found)
    if kind == "probabilities":
        found = found.softmax(-1)
    return found.new_zeros(len(rows.words), found.shape[1]).scatter_reduce(
        0, word[:, None].expand_as(found), found, "amax", include_self=False
    )
