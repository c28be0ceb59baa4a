"""What scores over several seeds show: intervals, paired tests, corrections, and what they cannot.

An arm's scores over n seeds are paired with another's by the seed. All functions are pure; what is
drawn at random follows from a seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

FEWEST = 6
"""Seeds below which nothing is called significant: 5 cannot come below p = 0.05."""
EXACT = 16
"""Seeds up to which all signs are tried; beyond, so many random ones:"""
FLIPS = 1 << EXACT
DRAWS = 2000
"""Of a bootstrap."""


def least(seeds: int, comparisons: int = 1) -> float:
    """Give the smallest two-sided p that paired seeds can reach after Holm's correction."""
    return min(1.0, comparisons * 2.0 / 2.0**seeds)


def sign_flip(
    differences: Sequence[float], alternative: Literal["two-sided", "greater"] = "two-sided"
) -> float:
    """Give the p of paired differences: their mean against those with signs flipped (Fisher 1935).

    It is exact where each difference is as likely as its opposite under the null hypothesis.
    """
    values = np.asarray(differences, np.float64)
    if len(values) < 2 or not values.any():
        return 1.0
    found = stats.permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        alternative=alternative,
        n_resamples=np.inf if len(values) <= EXACT else FLIPS,
        rng=np.random.default_rng(0),
        vectorized=True,
    )
    return float(found.pvalue)


def not_inferior(differences: Sequence[float], margin: float) -> float:
    """Give the p against the hypothesis that an arm is worse than another by ``margin`` or more."""
    return sign_flip([difference + margin for difference in differences], "greater")


def holm(values: Sequence[float]) -> list[float]:
    """Adjust p values so that any false claim among all is as rare as promised (Holm 1979)."""
    order = np.argsort(values, kind="stable")
    found, least_so_far = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        least_so_far = max(least_so_far, min(1.0, (len(values) - rank) * values[place]))
        found[int(place)] = least_so_far
    return found


def benjamini_hochberg(values: Sequence[float]) -> list[float]:
    """Adjust p values so that false claims are as rare among the claims (1995)."""
    if not len(values):
        return []
    return [float(value) for value in stats.false_discovery_control(values, method="bh")]


def resampled(
    parts: Array, whole: Callable[[Array], Array], seed: int = 0, draws: int = DRAWS
) -> Array:
    """Draw the arms' mean scores anew, ``[draws, arms]``: seeds first, then items of each seed.

    ``parts [arms, seeds, items, k]`` are what each item (a sentence, where a score is made of its
    parts) adds to a score, and ``whole`` makes scores ``[...]`` of sums ``[..., k]``. All arms have
    the same seeds and items drawn, so differences between columns are paired.
    """
    arms, seeds, items, size = parts.shape
    random = np.random.default_rng(seed)
    chosen = random.integers(0, seeds, (draws, seeds))
    flat = np.moveaxis(parts, 0, 2).reshape(seeds, items, arms * size)
    sums = np.empty((draws, seeds, arms * size))
    for own in range(seeds):
        where = np.nonzero(chosen == own)
        picked = random.integers(0, items, (len(where[0]), items))
        for place, (draw, slot) in enumerate(zip(*where, strict=True)):
            weights = np.bincount(picked[place], minlength=items)
            sums[draw, slot] = weights @ flat[own]
    scores = whole(sums.reshape(draws, seeds, arms, size))
    mean: Array = scores.mean(axis=1)
    return mean


def interval(values: Array, level: float = 0.95) -> tuple[float, float]:
    """Give between which percentiles this share of resampled values lies."""
    low, high = np.percentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def violation(better: Sequence[float], worse: Sequence[float]) -> float:
    """Give how far the first sample is from being stochastically larger: 0 is wholly, 1 not at all.

    The share of the squared distance between both quantile functions where the order is the other
    way round (del Barrio et al. 2018, equation 4); one half where there is no distance.
    """
    a, b = (np.asarray(own, np.float64)[None] for own in (better, worse))
    return float(_violations(a, b)[0])


def _violations(better: Array, worse: Array) -> Array:
    """Give the same of many pairs of samples, ``[pairs, n]`` and ``[pairs, m]``."""
    n, m = better.shape[1], worse.shape[1]
    edges = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    middle = (edges[1:] + edges[:-1]) / 2
    a = np.sort(better)[:, (middle // m).astype(int)]
    b = np.sort(worse)[:, (middle // n).astype(int)]
    apart = np.diff(edges) * (a - b) ** 2
    total = apart.sum(1)
    wrong = np.where(a < b, apart, 0.0).sum(1)
    return np.divide(wrong, total, out=np.full(len(total), 0.5), where=total != 0)


def almost_order(
    better: Sequence[float], worse: Sequence[float], level: float = 0.95, seed: int = 0
) -> float:
    """Bound the violation of the order from above (del Barrio et al. 2018; Dror et al. 2019).

    Below one half the first is almost stochastically larger, with this confidence; authors advise
    to ask for less than 0.2.
    """
    n, m = len(better), len(worse)
    scale = math.sqrt(n * m / (n + m))
    random = np.random.default_rng(seed)
    a, b = np.asarray(better, np.float64), np.asarray(worse, np.float64)
    drawn = [own[random.integers(0, len(own), (DRAWS, len(own)))] for own in (a, b)]
    deviation = scale * float(np.std(_violations(*drawn)))
    bound = violation(better, worse) + deviation * stats.norm.ppf(level) / scale
    return float(np.clip(bound, 0.0, 1.0))


def expected_best(scores: Sequence[float]) -> list[float]:
    """Give the expected best of 1, 2, ... of these trials (Dodge et al. 2019, equation 3).

    Trials are taken as drawn with replacement from those that were run.
    """
    values = np.sort(np.asarray(scores, np.float64))
    counts = np.arange(1, len(values) + 1)
    below = counts / max(1, len(values))
    return [float(values @ np.diff(below**count, prepend=0.0)) for count in counts]
