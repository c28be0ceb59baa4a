"""Statistics: each function against an oracle; promises of error rates held by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from orchestrator.studies import statistics

SAMPLES = [
    [0.3, -0.1, 0.2, 0.4, 0.1, 0.2],
    [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
    [-0.2, 0.1, 0.0, 0.3, -0.4],
]


@pytest.mark.parametrize("values", SAMPLES)
def test_the_sign_flip_test_counts_all_signs(values: list[float]) -> None:
    means = [
        np.mean(np.multiply(signs, values))
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    both = np.mean(np.abs(means) >= abs(np.mean(values)) - 1e-12)
    above = np.mean(np.array(means) >= np.mean(values) - 1e-12)
    assert statistics.sign_flip(values) == pytest.approx(both)
    assert statistics.sign_flip(values, "greater") == pytest.approx(above)


def test_equal_arms_differ_by_nothing() -> None:
    assert statistics.sign_flip([0.0] * 8) == 1.0
    assert statistics.sign_flip([]) == 1.0


@pytest.mark.parametrize(("seeds", "expected"), [(5, 0.0625), (6, 0.03125), (8, 0.0078125)])
def test_the_smallest_p_is_reached_where_all_seeds_agree(seeds: int, expected: float) -> None:
    assert statistics.least(seeds) == expected
    found = statistics.sign_flip([0.1 + n for n in range(seeds)])
    assert found == pytest.approx(expected)
    assert (found < 0.05) == (seeds >= statistics.FEWEST)


def test_eight_seeds_carry_six_comparisons() -> None:
    assert statistics.least(8, 6) < 0.05 < statistics.least(8, 7)


def test_many_seeds_are_sampled_and_near_the_t_test() -> None:
    values = np.random.default_rng(1).normal(0.4, 1, 30)
    found = statistics.sign_flip(values.tolist())
    assert found == statistics.sign_flip(values.tolist())
    assert found == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)


def test_p_values_of_no_difference_are_super_uniform() -> None:
    """Within a 99 % band of the binomial, over 2,000 simulated studies of 8 seeds."""
    random = np.random.default_rng(0)
    studies = 2000
    found = np.array(
        [statistics.sign_flip(random.standard_t(3, 8).tolist()) for _ in range(studies)]
    )
    for level in (0.01, 0.05, 0.1):
        most = stats.binom.ppf(0.99, studies, level)
        assert (found <= level).sum() <= most, level


def test_an_arm_is_not_inferior_only_within_the_margin() -> None:
    worse = [-0.001, -0.002, -0.001, -0.003, -0.002, -0.001, -0.002, -0.001]
    assert statistics.not_inferior(worse, 0.005) == pytest.approx(1 / 256)
    assert statistics.not_inferior(worse, 0.0005) > 0.9


def test_holm_by_hand() -> None:
    """0.01 x 4, 0.02 x 3, then no less than what came before."""
    found = statistics.holm([0.04, 0.01, 0.02, 0.03])
    assert found == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert statistics.holm([0.6, 0.7]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_benjamini_hochberg_by_hand() -> None:
    """p n / rank, from the largest down."""
    found = statistics.benjamini_hochberg([0.01, 0.04, 0.03, 0.5])
    assert found == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert statistics.benjamini_hochberg([]) == []


def accuracy(sums: np.ndarray) -> np.ndarray:
    found: np.ndarray = sums[..., 0] / sums[..., 1]
    return found


def test_a_bootstrap_of_one_seed_is_that_of_its_items() -> None:
    hits = np.random.default_rng(2).random(200) < 0.7
    parts = np.stack([hits, np.ones(200)], -1).astype(float)[None, None]
    found = statistics.resampled(parts, accuracy)[:, 0]
    spread = np.sqrt(hits.mean() * (1 - hits.mean()) / 200)
    assert found.mean() == pytest.approx(hits.mean(), abs=4 * spread / len(found) ** 0.5)
    assert found.std() == pytest.approx(spread, rel=0.1)


def test_a_bootstrap_knows_both_sources_of_noise() -> None:
    """Variance over seeds / n and variance over items / (n items), as the sample has them."""
    random = np.random.default_rng(3)
    chances = random.uniform(0.4, 0.9, 6)
    hits = random.random((6, 100)) < chances[:, None]
    parts = np.stack([hits, np.ones_like(hits)], -1).astype(float)[None]
    found = statistics.resampled(parts, accuracy)[:, 0]
    means = hits.mean(1)
    expected = means.var() / 6 + (means * (1 - means) / 100).mean() / 6
    assert found.var() == pytest.approx(expected, rel=0.15)


def test_arms_are_drawn_together() -> None:
    """Of two arms with the same hits, one shifted by a constant, the difference has no spread."""
    hits = (np.random.default_rng(4).random((3, 50)) < 0.5).astype(float)
    one = np.stack([hits, np.ones_like(hits)], -1)
    other = np.stack([hits + 0.25, np.ones_like(hits)], -1)
    found = statistics.resampled(np.stack([one, other]), accuracy)
    assert found[:, 1] - found[:, 0] == pytest.approx(0.25)
    assert found[:, 0].std() > 0.01


def test_f1_is_resampled_by_groups_as_one_computes_it() -> None:
    """Drawing sentences and adding up their counts is drawing rows of the table of counts."""
    random = np.random.default_rng(5)
    counts = random.integers(0, 4, (1, 2, 30, 3)).astype(float)

    def f1(sums: np.ndarray) -> np.ndarray:
        found: np.ndarray = 2 * sums[..., 0] / (2 * sums[..., 0] + sums[..., 1] + sums[..., 2])
        return found

    found = statistics.resampled(counts, f1, draws=500)[:, 0]
    plain = [
        np.mean(
            [f1(counts[0, s][random.integers(0, 30, 30)].sum(0)) for s in random.integers(0, 2, 2)]
        )
        for _ in range(500)
    ]
    low, high = statistics.interval(found)
    assert (low, high) == pytest.approx(np.percentile(plain, [2.5, 97.5]), abs=0.03)


def test_the_violation_of_an_order_by_hand() -> None:
    """Quantiles 1, 4 against 2, 3: distances 1 and 1, one of them the wrong way."""
    assert statistics.violation([1, 4], [2, 3]) == 0.5
    assert statistics.violation([4, 5], [1, 2]) == 0
    assert statistics.violation([1, 2], [4, 5]) == 1
    assert statistics.violation([1, 2], [2, 1]) == 0.5
    # Three against two: quantiles change at thirds and halves; 1/6 of the way 2 stands against 3.
    found = statistics.violation([0, 2, 9], [0, 3])
    assert found == pytest.approx((1 / 6 * 1) / (1 / 6 * 4 + 1 / 6 * 1 + 1 / 3 * 36))


def test_an_order_is_claimed_where_it_is_and_not_where_it_is_not() -> None:
    random = np.random.default_rng(6)
    low, high = random.normal(0, 1, 20), random.normal(2, 1, 20)
    assert statistics.almost_order(high.tolist(), low.tolist()) < 0.1
    assert statistics.almost_order(low.tolist(), high.tolist()) > 0.9
    claims = [
        statistics.almost_order(*random.normal(0, 1, (2, 8)).tolist(), seed=study) < 0.2
        for study in range(20)
    ]
    assert sum(claims) <= 3


def test_the_expected_best_is_the_mean_over_all_draws() -> None:
    scores = [0.3, 0.9, 0.5]
    for count, found in enumerate(statistics.expected_best(scores), 1):
        draws = itertools.product(scores, repeat=count)
        assert found == pytest.approx(np.mean([max(own) for own in draws]))
