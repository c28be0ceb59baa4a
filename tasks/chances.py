"""Soft labels: distributions over a label set, their losses and distances."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, Field
from scipy.spatial import distance
from scipy.special import rel_entr
from torch import Tensor
from torch.nn import functional

from tasks import numbers
from tasks.family import Fault
from tasks.numbers import Plain

ROUNDING = 0.02
"""How far from 1 the sum of chances may be, since files round them."""


class Divergence(Plain):
    """The options of ``loss: {name: kl}``."""

    temperature: float = Field(1.0, gt=0)
    """Both sides are softened by it, and the loss grows by its square (Hinton et al. 2015)."""


LOSSES: dict[str, type[BaseModel]] = {"kl": Divergence, "soft_cross_entropy": Plain}
"""The losses of soft labels; the first is the default."""


def fault(column: str, value: Any, classes: int) -> Fault | None:
    """Say what is wrong with a distribution."""
    expected = f"{classes} chances, none negative, of sum 1"
    found = read(value)
    return None if found is not None and len(found) == classes else Fault(column, value, expected)


def read(value: Any) -> list[float] | None:
    """Read a distribution and take the rounding out of its sum, or give None."""
    if not isinstance(value, (list, tuple)):
        return None
    found = [chance for entry in value if (chance := numbers.read(entry)) is not None]
    total = sum(found)
    if len(found) < len(value) or min(found, default=-1) < 0 or abs(total - 1) > ROUNDING:
        return None
    return [chance / total for chance in found]


def loss(
    options: Mapping[str, Any], logits: Tensor, true: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Sum a loss of ``logits [n, classes]`` against ``true [n, classes]``, over log(classes).

    ``kl`` is KL(true || predicted). Label smoothing mixes the truth with an even distribution.
    """
    classes = logits.shape[1]
    true = true * (1 - smoothing) + smoothing / classes
    if options["name"] == "soft_cross_entropy":
        total = functional.cross_entropy(logits, true, reduction="sum")
        return total / math.log(classes)
    heat = float(options["temperature"])
    if heat != 1:
        true = true ** (1 / heat)
        true = true / true.sum(1, keepdim=True)
    predicted = (logits / heat).log_softmax(1)
    total = functional.kl_div(predicted, true, reduction="sum") * heat**2
    return total / math.log(classes)


def scores(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> dict[str, float]:
    """Give mean KL(true || predicted) in nats, and 1 - mean Jensen-Shannon distance (base 2).

    ``pairs`` are predicted and true distributions. The distance (Endres and Schindelin 2003) is a
    metric in [0, 1].
    """
    if not pairs:
        return {"kl": 0.0, "js_similarity": 0.0}
    predicted, true = np.array([p for p, _ in pairs]), np.array([t for _, t in pairs])
    return {
        "kl": float(rel_entr(true, predicted.clip(1e-12)).sum(1).mean()),
        "js_similarity": float(1 - np.mean(distances(pairs))),
    }


def distances(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> list[float]:
    """Give the Jensen-Shannon distance (base 2) of each pair of distributions."""
    if not pairs:
        return []
    predicted, true = np.array([p for p, _ in pairs]), np.array([t for _, t in pairs])
    found = np.nan_to_num(distance.jensenshannon(predicted, true, base=2, axis=1))
    return [float(apart) for apart in found]
