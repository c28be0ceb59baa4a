"""Numbers are read whatever wrote them; losses cost one unit for always guessing the mean."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from tasks import numbers


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, 3.0), (2.5, 2.5), ("1e2", 100.0), (" 4 ", 4.0), ("-0.5", -0.5)]
    + [(bad, None) for bad in (True, None, "", "four", math.nan, math.inf, "nan", [1], 10**400)],
)
def test_a_number_is_read_or_known_to_be_none(value: Any, expected: float | None) -> None:
    assert numbers.read(value) == expected


@pytest.mark.parametrize("values", [[], [None, "x"], [2, 2.0, "2"]])
def test_numbers_that_are_all_the_same_teach_nothing(values: list[Any]) -> None:
    with pytest.raises(ValueError, match="expected numbers that differ"):
        numbers.scale(values, "score")


@pytest.mark.parametrize(
    "options",
    [{"name": "mse"}, {"name": "mae"}, *({"name": "huber", "delta": d} for d in (0.3, 1.0, 3.0))],
)
def test_guessing_the_mean_of_normal_targets_costs_one_unit(options: dict[str, Any]) -> None:
    target = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(100_000) + 0.5) / 100_000)
    total = numbers.loss(options, torch.zeros_like(target), target)
    assert total.item() / len(target) == pytest.approx(1, rel=1e-3)


def test_losses_are_pytorchs_own_but_for_the_unit() -> None:
    predicted, target = torch.randn(2, 50)
    for options, own in [
        ({"name": "mse"}, functional.mse_loss(predicted, target)),
        ({"name": "mae"}, functional.l1_loss(predicted, target)),
        ({"name": "huber", "delta": 0.7}, functional.huber_loss(predicted, target, delta=0.7)),
    ]:
        found = numbers.loss(options, predicted, target) / len(target)
        one = numbers.loss(options, torch.zeros(1), torch.full((1,), 1e-3))
        small = {"mse": 1e-6, "mae": 1e-3, "huber": 0.5e-6}[str(options["name"])]
        assert (found / own).item() == pytest.approx((one / small).item(), rel=1e-3)


def test_scores_of_constants_are_zero_and_errors_are_in_the_units_given() -> None:
    assert numbers.scores([1.0, 1.0], [0.0, 2.0]) == {
        "pearson": 0.0,
        "spearman": 0.0,
        "rmse": 1.0,
        "mae": 1.0,
    }
    found = numbers.scores([0.0, 1.0, 4.0, 2.0], [1.0, 2.0, 8.0, 6.0])
    assert found["spearman"] == pytest.approx(1.0)
    assert found["pearson"] == pytest.approx(0.95994, abs=1e-5)
    assert found["mae"] == pytest.approx((1 + 1 + 4 + 4) / 4)
    assert found["rmse"] == pytest.approx(math.sqrt((1 + 1 + 16 + 16) / 4))
