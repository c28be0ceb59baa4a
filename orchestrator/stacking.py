"""The target's head reads its helpers: their outputs on its own texts, joined with the input.

Stacking (Wolpert 1992) of heads on one encoder. What a helper answers about a text that it was
trained on is better than what it answers later; ``folds.py`` keeps such answers out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.batch import GIVEN
from orchestrator.sections import Stacking
from tasks.head import Head, Rows
from tasks.helper import Helper, Kind

Find = Callable[[str], tuple[Any, Head]]
"""Gives family and head of a task."""


@dataclass(frozen=True)
class Stacked:
    """Which task reads what of which others."""

    target: str
    features: dict[str, Kind]
    """By helper, in the order in which they are read."""
    detach: bool = True

    @classmethod
    def of(
        cls, stacking: Stacking, target: str | None, families: Mapping[str, object]
    ) -> Stacked | None:
        """Say what a target reads; None for nothing. Families that tell nothing are left out."""
        if target is None:
            return None
        asked, found = stacking.features, dict[str, Kind]()
        for task, family in sorted(families.items()):
            kind = asked if isinstance(asked, str) else asked.get(task, "none")
            if task == target or kind == "none" or not isinstance(family, Helper):
                continue
            if family.silent(getattr(family, "data", None), type(families[target])) is None:
                found[task] = kind
        return cls(target, found, stacking.detach) if found else None


class Stack(nn.Module):
    """Adds to each hidden state a linear map of what helpers say there: ``h + W f``.

    For a head that begins with a linear layer this is that layer on ``[h, f]``. W begins at zero,
    so the head begins with what it has learnt without helpers.
    """

    def __init__(self, stacked: Stacked, width: int, find: Find) -> None:
        super().__init__()
        self.stacked = stacked
        sizes = counts(stacked, width, find)
        self.size = sum(sizes)
        asking = [bool(find(task)[0].asks) for task in stacked.features]
        self.asks = any(asking)
        unasked = torch.tensor([not asks for asks in asking]).repeat_interleave(torch.tensor(sizes))
        self.unasked: Tensor
        self.register_buffer("unasked", unasked.float(), persistent=False)
        self.join = nn.Linear(self.size, width, bias=False)
        nn.init.zeros_(self.join.weight)

    def forward(self, hidden: Tensor, rows: Rows, find: Find) -> tuple[Tensor, Rows]:
        """Give ``hidden [tokens, width]``, changed where the target's ``rows`` are, and the rows.

        Answers that rows bring along (``GIVEN``) count; where they have none they are NaN. Where
        helpers are told a row's question, the rows tell what the states are without that.
        """
        where, found = features(self.stacked, hidden, rows, find)
        if GIVEN in rows.columns:
            given = rows.columns[GIVEN].view(-1, self.size)
            found = torch.where(given.isnan(), found, given)
        joined = hidden.index_add(0, where, self.join(found).to(hidden.dtype))
        if not self.asks:
            return joined, rows
        rest = self.join(found * self.unasked).to(hidden.dtype)
        return joined, replace(rows, unasked=hidden.index_add(0, where, rest))


def counts(stacked: Stacked, width: int, find: Find) -> list[int]:
    """Count the features of each helper, for hidden states of this width."""
    one = torch.zeros(1, dtype=torch.int64)
    rows = Rows(one + 1, one, one + 1, one, one, one + 1)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return [said.shape[1] for said in _said(stacked, torch.zeros(1, width), rows, find)]


def features(stacked: Stacked, hidden: Tensor, rows: Rows, find: Find) -> tuple[Tensor, Tensor]:
    """Let the helpers answer on the target's rows: its tokens ``[n]``, and ``[n, size]`` for them.

    What a helper says of a whole sequence stands at each of its tokens. What it says of words
    stands at their first tokens; where the target has no words, every token counts as one, and
    the sequence gets the greatest of each feature.
    """
    return rows.tokens(), torch.cat(_said(stacked, hidden, rows, find), dim=1)


def _said(stacked: Stacked, hidden: Tensor, rows: Rows, find: Find) -> list[Tensor]:
    """Give what each helper says, ``[n, its size]``."""
    where, parts = rows.tokens(), []
    with torch.set_grad_enabled(torch.is_grad_enabled() and not stacked.detach):
        for task, kind in stacked.features.items():
            family, head = find(task)
            per_word = family.gives == "word"
            asked = _asked(rows, family, where if per_word and not len(rows.words) else rows.words)
            said = family.features(head, hidden, asked, kind).float()
            parts.append(_spread(said, rows, where, len(hidden), per_word))
    return parts


def _asked(rows: Rows, family: Any, words: Tensor) -> Rows:
    """Ask a helper about each sequence of the target's rows; its columns of answers are empty."""
    nothing = torch.zeros_like(rows.starts)
    columns = {name: nothing.new_empty(0, dtype=kind) for name, kind in family.columns.items()}
    columns |= {name: rows.columns[name] for name in family.asks if name in rows.columns}
    return Rows(
        torch.ones_like(rows.starts),
        rows.starts,
        rows.lengths,
        rows.summary,
        words,
        rows.word_counts if words is rows.words else rows.lengths,
        columns,
        dict.fromkeys(family.columns, nothing),
    )


def _spread(said: Tensor, rows: Rows, where: Tensor, size: int, per_word: bool) -> Tensor:
    """Lay what was said of sequences or words out over the rows' tokens, ``[tokens, n]``.

    ``size`` counts the tokens of the whole batch.
    """
    sequence = torch.arange(len(rows.starts), device=where.device).repeat_interleave(rows.lengths)
    if per_word and len(rows.words):
        place = where.new_zeros(size)
        place[where] = torch.arange(len(where), device=where.device)
        return said.new_zeros(len(where), said.shape[1]).index_copy(0, place[rows.words], said)
    if per_word:
        index = sequence[:, None].expand_as(said)
        said = said.new_zeros(len(rows.starts), said.shape[1]).scatter_reduce(
            0, index, said, "amax", include_self=False
        )
    return said[sequence]
