"""R-Drop: the answers of two readings of a row, each under its own dropout, are to agree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from tasks.family import Rows

Chances = tuple[Tensor, Tensor]
"""Log chances ``[terms, choices]``, and what a nat counts in each term's loss, ``[terms]``."""


class Comparable(ABC):
    """What a family offers whose answers are chances, so that two readings can be compared."""

    @abstractmethod
    def log_chances(self, output: Any, rows: Rows) -> Iterable[Chances]:
        """Give the chances that the loss is made of, terms in the order of the rows.

        A nat counts 1 / unit, and nothing in a term that takes no part. Finite: a choice that a
        term does not have has about no chance, not none.
        """


def agreed(loss: Tensor, compared: Iterable[Chances], strength: float) -> Tensor:
    """Give the loss sum of rows that were read twice: all of them, then all of them again.

    Wu et al. 2021, equation 4, is CE_1 + CE_2 + alpha / 2 (KL(P_1 || P_2) + KL(P_2 || P_1)) a term.
    This is half of it, so that a row read twice costs what a row does: ``loss``, the sum of all
    cross entropies, over 2, and alpha / 4 times both divergences, in the units of the loss.
    """
    total = loss / 2
    for chances, counts in compared:
        first, again = chances.chunk(2)
        both = ((first.exp() - again.exp()) * (first - again)).sum(1)
        total = total + strength / 4 * (both * counts[: len(both)]).sum()
    return total
