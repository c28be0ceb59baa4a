"""Soft labels: losses are the formulas, and distances those that are known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tasks import chances


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([0.25, 0.75], [0.25, 0.75]),
        (["0.5", 0.5, 0], [0.5, 0.5, 0.0]),
        ([0.333, 0.333, 0.333], [1 / 3] * 3),
        *((bad, None) for bad in (None, [], "ab", [1.5, -0.5], [0.5, 0.6], [None, 1.0])),
    ],
)
def test_chances_are_read_and_their_rounding_taken_out(
    value: Any, expected: list[float] | None
) -> None:
    found = chances.read(value)
    assert found == (None if expected is None else pytest.approx(expected))


def test_kl_is_the_formula_in_units_of_the_even_guess() -> None:
    true = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])
    logits = torch.randn(2, 3)
    predicted = logits.softmax(1)
    terms = torch.where(true > 0, true * (true / predicted).log(), torch.zeros(()))
    found = chances.loss({"name": "kl", "temperature": 1.0}, logits, true)
    assert found.item() == pytest.approx(terms.sum().item() / math.log(3), rel=1e-5)


def test_soft_cross_entropy_is_kl_and_the_entropy_of_the_truth() -> None:
    true = torch.tensor([[0.5, 0.25, 0.25]])
    logits = torch.randn(1, 3)
    entropy = -(true * true.log()).sum() / math.log(3)
    kl = chances.loss({"name": "kl", "temperature": 1.0}, logits, true)
    found = chances.loss({"name": "soft_cross_entropy"}, logits, true)
    assert found.item() == pytest.approx((kl + entropy).item(), rel=1e-5)


def test_gradients_keep_their_size_at_any_temperature() -> None:
    """Hinton et al. 2015, section 2.1: the square of the temperature makes up for softness."""
    true = torch.tensor([[0.4, 0.35, 0.25]])
    sizes = []
    for heat in (20.0, 40.0):
        logits = torch.tensor([[0.1, 0.0, -0.1]], requires_grad=True)
        chances.loss({"name": "kl", "temperature": heat}, logits, true).backward()
        assert logits.grad is not None
        sizes.append(logits.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


def test_scores_are_zero_apart_for_the_truth_and_all_apart_for_the_opposite() -> None:
    same = chances.scores([([0.2, 0.8], [0.2, 0.8])])
    assert same == pytest.approx({"kl": 0.0, "js_similarity": 1.0}, abs=1e-6)
    opposite = chances.scores([([1.0, 0.0], [0.0, 1.0])])
    assert opposite["js_similarity"] == pytest.approx(0.0, abs=1e-4)
    half = chances.scores([([0.5, 0.5], [1.0, 0.0])])
    assert half["kl"] == pytest.approx(math.log(2))


def test_kl_at_a_temperature_is_its_formula() -> None:
    """Hinton et al. 2015: both sides softened, times the square of the temperature."""
    logits, true = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[0.7, 0.2, 0.1]])
    heat = 3.0
    softened = (true.log() / heat).softmax(1)
    expected = (softened * (softened.log() - (logits / heat).log_softmax(1))).sum() * heat**2
    found = chances.loss({"name": "kl", "temperature": heat}, logits, true)
    assert found.item() == pytest.approx(expected.item() / math.log(3), rel=1e-5)
