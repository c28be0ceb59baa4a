"""How tasks are weighed against each other: by fixed weights, or by what the model learns."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

LEARNT = ("uncertainty", "famo")
"""Ways of weighing in which the weights that were set say nothing."""


class LogVariance(nn.Module):
    """A task's log variance s, learnt in the group of its head (Kendall et al. 2018).

    Its loss then counts exp(-s) L + s / 2: the way to weigh less costs something. With losses in
    units (an untrained head costs about 1), all tasks begin alike, at s = 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1))

    def forward(self) -> Tensor:
        """Give s, ``[1]``; a new tensor, since ZeRO frees the parameter after the forward."""
        return self.value * 1.0


def coefficients(
    method: str,
    weights: Mapping[str, float],
    numbers: Mapping[str, int],
    terms: Mapping[str, int],
) -> dict[str, float]:
    """Give each present task's factor on its loss sum, by the name of the way of weighing.

    ``numbers`` are the examples n_t of each task in the global batch, N together; ``terms`` the
    terms m_t of their loss sums. With ``fixed`` weights w_t it is w_t (n_t / N) / m_t, so that a
    share acts on the expected gradient as a weight does. The other ways look at means: it is
    w_t / m_t where gradients are combined, and 1 / m_t where weights are learnt. A task whose rows
    have no term (texts without a known word, say) is absent: it has no loss that could be weighed.
    """
    examples = sum(numbers.values())
    factors = {
        t: (1.0 if method in LEARNT else weights[t]) * (n / examples if method == "fixed" else 1.0)
        for t, n in numbers.items()
    }
    return {t: factor / terms[t] for t, factor in factors.items() if terms[t]}


def weighed(losses: Mapping[str, Tensor], variances: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scale each loss sum by its task's exp(-s), where tasks have one."""
    return {t: v * (-variances[t]).exp().sum() if t in variances else v for t, v in losses.items()}


def price(variances: Mapping[str, Tensor], present: Collection[str]) -> Tensor | float:
    """Sum s / 2 over the tasks of a global batch; the others' stay in it at zero, for ZeRO."""
    return sum(s.sum() * (0.5 if t in present else 0.0) for t, s in variances.items())
