"""Combined gradients: PCGrad by its formula, TorchJD's aggregators, and the step they are for."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor
from toy import SIZES, ToyRun

from orchestrator import aggregation
from orchestrator.aggregation import aggregated_step, combined, pcgrad, uninstalled
from orchestrator.engine import PlainEngine
from orchestrator.joint_step import joint_step
from orchestrator.sections import Aggregator, Weighting

PCGRAD = Weighting(name="pcgrad")


STEP = 6
"""One in which a task is absent, and the gradients of the others conflict."""


class Adding(PlainEngine):
    """Adds gradients up over steps and never moves."""

    def step(self, present: set[str]) -> None:
        pass


def by_hand(gradients: Tensor, orders: list[list[int]]) -> Tensor:
    """Yu et al. 2020, algorithm 1, on the gradients themselves."""
    total = torch.zeros_like(gradients[0])
    for task, order in enumerate(orders):
        own = gradients[task].clone()
        for other in (other for other in order if other != task):
            if own @ gradients[other] < 0:
                own -= (own @ gradients[other]) / gradients[other].norm() ** 2 * gradients[other]
        total += own
    return total


@pytest.mark.parametrize("tasks", [2, 3, 6])
def test_conflicting_gradients_are_projected_as_the_paper_says(tasks: int) -> None:
    gradients = torch.randn(tasks, 4, dtype=torch.float64)
    orders = [torch.randperm(tasks).tolist() for _ in range(tasks)]
    gramian = gradients @ gradients.T
    assert (gramian < 0).any(), "nothing conflicts: the test shows nothing"
    found = pcgrad(gramian, orders) @ gradients
    torch.testing.assert_close(found, by_hand(gradients, orders), rtol=1e-9, atol=1e-9)


def test_gradients_without_conflict_are_added_up() -> None:
    gradients = torch.rand(4, 5)
    torch.testing.assert_close(
        combined(gradients, PCGRAD, 0, 0), gradients.sum(0), rtol=1e-6, atol=1e-6
    )


def test_a_gradient_of_zeros_is_in_nobodys_way() -> None:
    gradients = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 1.0]])
    assert combined(gradients, PCGRAD, 0, 0).isfinite().all()


def test_the_order_of_tasks_follows_from_seed_and_step_alone() -> None:
    gradients = torch.randn(5, 3)
    found = [combined(gradients, PCGRAD, *key) for key in ((0, 0), (0, 1), (1, 0))]
    torch.rand(3)
    assert torch.equal(combined(gradients, PCGRAD, 0, 0), found[0])
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_torchjd_projects_alike() -> None:
    torchjd = pytest.importorskip("torchjd.aggregation")
    gradients = torch.randn(5, 8)
    torch.manual_seed(3)
    expected = torchjd.PCGrad()(gradients)
    torch.manual_seed(3)
    orders = [torch.randperm(5).tolist() for _ in range(5)]
    found = pcgrad(gradients @ gradients.T, orders) @ gradients
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", get_args(Aggregator))
def test_every_aggregator_is_torchjds_and_draws_by_seed_and_step(name: str) -> None:
    torchjd = pytest.importorskip("torchjd.aggregation")
    gradients = torch.randn(3, 8)
    weighting = Weighting.model_validate({"name": "torchjd", "aggregator": name})
    found = combined(gradients, weighting, 0, 1)
    torch.rand(3)
    assert torch.equal(combined(gradients, weighting, 0, 1), found)
    if name not in ("GradDrop", "Random"):
        assert torch.equal(getattr(torchjd, name)()(gradients), found)
    assert combined(gradients[:1], weighting, 0, 1).shape == (8,)


def test_torchjd_is_asked_for_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregation.importlib.util, "find_spec", lambda name: None)
    assert uninstalled(PCGRAD) == []
    (problem,) = uninstalled(Weighting(name="torchjd"))
    assert "pip install 'tlmt[torchjd]'" in problem.text


def stepped(
    run: ToyRun, micro: int, combine: Callable[[Tensor], Tensor] | None
) -> dict[str, Tensor]:
    """Give a step's gradients and its loss sums; without ``combine`` those of a joint step."""
    batches, factors = run.batches(STEP, 0, 1, micro)
    model = run.model(0.3)
    engine = Adding(model, run.groups(model), 0.0)
    seeds = range(len(batches))
    if combine is None:
        sums = joint_step(engine, batches, factors, 1, seeds)
    else:
        sums = aggregated_step(engine, batches, factors, 1, list(seeds), combine)
    found = {name: p.grad for name, _, p in model.named() if p.grad is not None}
    return {**found, "sums": sums}


@pytest.mark.parametrize("micro", [15, 1000])
def test_a_plain_sum_is_the_joint_step(micro: int) -> None:
    run = ToyRun("pcgrad")
    run.weights = {"rare": 3.0, "tags": 0.5, "texts": 1.0}
    found, expected = stepped(run, micro, lambda each: each.sum(0)), stepped(run, micro, None)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_the_encoder_is_given_what_was_combined_and_heads_their_own() -> None:
    run = ToyRun("pcgrad")
    seen: list[Tensor] = []

    def combine(each: Tensor) -> Tensor:
        seen.append(each.clone())
        return combined(each, PCGRAD, 0, 0)

    plain, found = stepped(run, 25, None), stepped(run, 25, combine)
    _, factors = run.batches(STEP, 0, 1, 25)
    (each,) = seen
    assert len(each) == len(factors) < len(SIZES)
    encoder = [name for name in plain if name.startswith("encoder.")]
    flat = torch.cat([found[name].flatten() for name in encoder])
    torch.testing.assert_close(flat, combined(each, PCGRAD, 0, 0))
    assert not torch.allclose(flat, each.sum(0)), "nothing conflicts: the test shows nothing"
    for place, task in enumerate(sorted(factors)):
        run.weights = {**dict.fromkeys(SIZES, 0.0), task: 1.0}
        alone = stepped(run, 25, None)
        own = torch.cat([alone[name].flatten() for name in encoder])
        torch.testing.assert_close(each[place], own, rtol=1e-5, atol=1e-7)
    for name in found.keys() - set(encoder):
        torch.testing.assert_close(found[name], plain[name], rtol=1e-5, atol=1e-7)
    assert found.keys() == plain.keys()


def test_an_encoder_that_rests_has_nothing_to_combine() -> None:
    run = ToyRun("pcgrad")
    batches, factors = run.batches(0, 0, 1)
    model = run.model()
    for parameter in model.encoder.parameters():
        parameter.requires_grad_(False)
    engine = Adding(model, run.groups(model), 0.0)
    for weighting in (PCGRAD, Weighting(name="torchjd")):
        aggregated_step(
            engine, batches, factors, 1, range(len(batches)),
            lambda each, way=weighting: combined(each, way, 0, 0),
        )  # fmt: skip
    assert all(p.grad is None for p in model.encoder.parameters())
    assert all(p.grad is not None for _, task, p in model.named() if task)
