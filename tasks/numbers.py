"""Numbers to predict: how they are read, their scale, and the losses of a regression."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats
from sklearn import metrics
from torch import Tensor
from torch.nn import functional

from tasks.family import Fault


class Plain(BaseModel):
    """The options of a loss that has none."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Huber(Plain):
    """The options of ``loss: {name: huber}`` (Huber 1964)."""

    delta: float = Field(1.0, gt=0)
    """Where the square turns into a line, in standard deviations of the training targets."""


LOSSES: dict[str, type[BaseModel]] = {"mse": Plain, "mae": Plain, "huber": Huber}
"""The losses of standardised numbers, each with its options."""


def read(value: Any) -> float | None:
    """Read a finite number, also one written as text (as in a CSV column), or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def fault(column: str, value: Any) -> Fault | None:
    """Say what is wrong with a number."""
    return Fault(column, value, "a finite number") if read(value) is None else None


def scale(values: Iterable[Any], column: str) -> dict[str, float]:
    """Give mean and standard deviation of the training targets.

    Raises ``ValueError`` where they are all the same: there would be nothing to learn.
    """
    found = sorted(number for value in values if (number := read(value)) is not None)
    if not found or found[0] == found[-1]:
        only = f"only {found[0]:g}" if found else "no number"
        raise ValueError(
            f"column {column!r} of the training rows holds {only}; expected numbers that differ."
        )
    return {"mean": statistics.fmean(found), "sd": statistics.pstdev(found)}


def loss(options: Mapping[str, Any], predicted: Tensor, target: Tensor) -> Tensor:
    """Sum a loss over standardised numbers, in units of what always guessing the mean costs.

    The unit is exact for the square, and for the others if targets are normally distributed.
    """
    name = options["name"]
    if name == "mse":
        return functional.mse_loss(predicted, target, reduction="sum")
    if name == "mae":
        return functional.l1_loss(predicted, target, reduction="sum") / math.sqrt(2 / math.pi)
    delta = float(options["delta"])
    total = functional.huber_loss(predicted, target, reduction="sum", delta=delta)
    return total / _normal_huber(delta)


def _normal_huber(delta: float) -> float:
    """Give the mean of Huber's loss of a standard normal variable."""
    density, beyond = float(stats.norm.pdf(delta)), float(stats.norm.sf(delta))
    return 0.5 - beyond - delta * density + 2 * delta * density - delta * delta * beyond


def scores(predicted: Sequence[float], true: Sequence[float]) -> dict[str, float]:
    """Give both correlations and both mean errors; all are 0 without rows.

    A correlation with something constant is undefined, and 0.
    """
    if not true:
        return dict.fromkeys(("pearson", "spearman", "rmse", "mae"), 0.0)
    return {
        "pearson": _correlation(stats.pearsonr, predicted, true),
        "spearman": _correlation(stats.spearmanr, predicted, true),
        "rmse": float(metrics.root_mean_squared_error(true, predicted)),
        "mae": float(metrics.mean_absolute_error(true, predicted)),
    }


def _correlation(measure: Any, predicted: Sequence[float], true: Sequence[float]) -> float:
    if np.ptp(predicted) == 0 or np.ptp(true) == 0:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nearly constant predictions
        found = float(measure(predicted, true).statistic)
    return found if math.isfinite(found) else 0.0
