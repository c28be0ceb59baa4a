"""Windows over a long text: each token is asked about once, where it sees most on both sides."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tasks.family import Encoded, Rows

COLUMNS = {
    "first": torch.int64,  # a sequence: the place of its first own token
    "size": torch.int64,  # a sequence: its own tokens
    "begins": torch.int64,  # a token of the text: its first character
    "ends": torch.int64,  # the same: the character after its last
}
"""The columns of ``columns``, for a family's own ``columns``."""


def columns(encoded: Sequence[Encoded]) -> dict[str, list[int]]:
    """Share out the tokens of the second text over the windows that show them.

    A token in two windows belongs to the one where more of the text stands around it on its
    poorer side (the maximal context of Devlin et al. 2019), so neighbours part in the middle of
    what they share.
    """
    spans = [(one.before, one.before + _end(one) - one.second) for one in encoded]
    cuts = [(spans[k][1] + spans[k + 1][0]) // 2 for k in range(len(spans) - 1)]
    found: dict[str, list[int]] = {name: [] for name in COLUMNS}
    for one, low, high in zip(encoded, [0, *cuts], [*cuts, spans[-1][1]], strict=True):
        begin = one.second + low - one.before
        own = one.offsets[begin : begin + high - low]
        found["first"].append(begin)
        found["size"].append(len(own))
        found["begins"] += [start for start, _ in own]
        found["ends"] += [end for _, end in own]
    return found


def _end(one: Encoded) -> int:
    """Give the place after the last token of the second text: special tokens follow it."""
    end = len(one.input_ids)
    while end > one.second and one.offsets[end - 1] == (0, 0):
        end -= 1
    return end


def tokens(rows: Rows) -> Tensor:
    """Give the places of all own tokens in the packed ones, ``[tokens]``, in order of the text."""
    size = rows.columns["size"]
    start = rows.starts + rows.columns["first"] - (size.cumsum(0) - size)
    sequence = torch.repeat_interleave(torch.arange(len(size), device=size.device), size)
    return start[sequence] + torch.arange(len(sequence), device=size.device)


def summary(hidden: Tensor, rows: Rows) -> Tensor:
    """Give the mean of the states that stand for each row's windows, ``[rows, width]``."""
    count = rows.sequences
    row = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    total = hidden.new_zeros(len(count), hidden.shape[1])
    return total.index_add(0, row, hidden[rows.summary]) / count[:, None]


def locate(begins: Sequence[int], ends: Sequence[int], start: int, end: int) -> tuple[int, int]:
    """Find the first and the last token that touch the characters from ``start`` to ``end``.

    Raises ``LookupError`` where none does: the tokenizer has nothing for them.
    """
    touching = [
        token
        for token, (begin, after) in enumerate(zip(begins, ends, strict=True))
        if begin < end and after > start
    ]
    if not touching:
        raise LookupError(f"no token touches the characters from {start} to {end}")
    return touching[0], touching[-1]
