"""Learnt weights: the objective is its formula, whatever the micro-batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toy import SIZES, ToyRun

from orchestrator.engine import PlainEngine
from orchestrator.model import MultiTaskModel
from orchestrator.weighting import coefficients


class Adding(PlainEngine):
    """Adds gradients up over steps and never moves."""

    def step(self, present: set[str]) -> None:
        pass


def variances(model: MultiTaskModel) -> dict[str, Tensor]:
    return {task: p for n, task, p in model.named() if task and n.endswith("log-variance")}


@pytest.mark.parametrize("micro", [15, 1000])
def test_the_gradient_of_a_log_variance_is_that_of_kendalls_objective(micro: int) -> None:
    """Kendall et al. 2018, equation 10 with s = log variance: d/ds (exp(-s) L + s / 2)."""
    run = ToyRun("uncertainty")
    model = run.model()
    with torch.no_grad():
        for place, own in enumerate(variances(model).values()):
            own.fill_(0.3 * place - 0.2)
    engine = Adding(model, run.groups(model), 0.0)
    batches, factors = run.batches(0, 0, 1, micro)
    sums = run.step(engine, 0, micro=micro)
    assert (len(batches) == 1) == (micro == 1000)
    for total, (task, own) in zip(sums, variances(model).items(), strict=True):
        assert own.grad is not None
        mean = total * factors.get(task, 0.0)
        price = 0.5 if task in factors else 0.0
        assert own.grad.item() == pytest.approx((price - (-own).exp() * mean).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("uncertainty", {"a": 1 / 3, "b": 1 / 8}),
        ("famo", {"a": 1 / 3, "b": 1 / 8}),
        ("pcgrad", {"a": 2 / 3, "b": 1 / 8}),
        ("torchjd", {"a": 2 / 3, "b": 1 / 8}),
    ],
)
def test_ways_that_look_at_means_leave_shares_out(method: str, expected: dict[str, float]) -> None:
    found = coefficients(method, {"a": 2.0, "b": 1.0}, {"a": 3, "b": 1}, {"a": 3, "b": 8})
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("method", ["fixed", "uncertainty", "famo", "pcgrad", "torchjd"])
def test_a_task_whose_rows_have_no_term_is_absent_and_its_rows_still_count(method: str) -> None:
    weights, numbers = {"a": 1.0, "b": 1.0}, {"a": 3, "b": 1}
    found = coefficients(method, weights, numbers, {"a": 3, "b": 0})
    assert found == {"a": coefficients(method, weights, numbers, {"a": 3, "b": 8})["a"]}


def test_fixed_weights_leave_no_log_variance_in_the_model() -> None:
    assert variances(ToyRun().model()) == {}
    assert set(variances(ToyRun("uncertainty").model())) == set(SIZES)
