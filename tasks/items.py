"""What each row adds to a main score: sums of it, over any choice of rows, make that score.

So a score can be resampled without a model: a bootstrap draws rows, adds up, and looks again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def means(values: Iterable[float]) -> Array:
    """Give parts ``[rows, 2]`` of the mean of the rows' own values."""
    own = np.fromiter(values, np.float64)
    return np.stack([own, np.ones_like(own)], axis=1)


def f1(pairs: Iterable[tuple[Set[Any], Set[Any]]]) -> Array:
    """Give parts ``[rows, 2]`` of the micro F1 of predicted against true things."""
    counts = [(2.0 * len(found & true), float(len(found) + len(true))) for found, true in pairs]
    return np.array(counts, np.float64).reshape(len(counts), 2)


def ratio(sums: Array) -> Array:
    """Divide the first of ``[..., 2]`` by the second; 0 where that is 0."""
    above, below = sums[..., 0], sums[..., 1]
    found: Array = np.divide(above, below, out=np.zeros_like(above), where=below != 0)
    return found


def macro(sums: Array) -> Array:
    """Give the mean of ratios, of ``[..., n above, n below]``, over those that have any below."""
    size = sums.shape[-1] // 2
    pairs = np.stack([sums[..., :size], sums[..., size:]], axis=-1)
    there = pairs[..., 1] > 0
    means_of = np.stack([ratio(pairs).sum(-1), there.sum(-1).astype(np.float64)], axis=-1)
    return ratio(means_of)


def moments(predicted: Sequence[float], true: Sequence[float]) -> Array:
    """Give parts ``[rows, 6]`` of a correlation: 1, x, y, x squared, y squared, x y."""
    x, y = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def correlation(sums: Array) -> Array:
    """Give Pearson's correlation of ``[..., 6]``; 0 where either side is constant."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    above = n * xy - x * y
    spread = np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0)
    tiny = 1e-12 * n * n * np.sqrt(np.maximum(xx * yy, 0))
    below = np.sqrt(spread)
    found: Array = np.divide(above, below, out=np.zeros_like(above), where=below > tiny)
    return found.clip(-1, 1)
