"""The joint step: what it minimises, and that cutting a global batch changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from toy import SIZES, ToyRun
from workers import Workers

from orchestrator.batch import collate
from orchestrator.engine import PlainEngine
from orchestrator.joint_step import joint_step
from orchestrator.model import MultiTaskModel
from orchestrator.plan import Plan
from orchestrator.weighting import coefficients


class Adding(PlainEngine):
    """Adds gradients up over steps and never moves."""

    def step(self, present: set[str]) -> None:
        pass


def adding(run: ToyRun, dropout: float = 0.0) -> Adding:
    model = run.model(dropout)
    return Adding(model, run.groups(model), 0.0)


def encoder_gradient(model: MultiTaskModel) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.encoder.parameters() if p.grad is not None])


def constant_run(shares: dict[str, float]) -> ToyRun:
    """Make a run in which all examples of a task are the same one."""
    run = ToyRun()
    for own in run.data.values():
        own[:] = own[:1] * len(own)
    # The plan believes in lengths of one token, so that its steps have ten examples each.
    lengths = {task: np.ones(len(own), np.int32) for task, own in run.data.items()}
    run.plan = Plan(lengths, shares, 10, seed=0)
    return run


@pytest.mark.parametrize("task", SIZES)
@pytest.mark.parametrize(
    "shares",
    [{"rare": 0.05, "tags": 0.35, "texts": 0.6}, {"rare": 0.1, "tags": 0.7, "texts": 0.2}],
    ids=["once", "twice"],
)
@pytest.mark.parametrize("weight", [0.7, 1.4])
def test_over_a_block_a_tasks_mean_encoder_gradient_is_weight_times_share(
    task: str, shares: dict[str, float], weight: float
) -> None:
    run = constant_run(shares)
    run.weights = dict.fromkeys(SIZES, 0.0) | {task: weight}
    engine = adding(run)
    steps = run.plan.steps_per_block
    for step in range(steps):
        run.step(engine, step)
    found = encoder_gradient(engine.model) / steps

    alone = run.model()
    example = run.data[task][0]
    batch = collate({task: [example]}, run.families, "first")
    (alone.loss_sums(alone(batch), batch)[task] / example["terms"]).backward()
    expected = weight * shares[task] * encoder_gradient(alone)
    assert expected.norm() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_over_many_blocks_the_gradient_is_that_of_all_rows_of_the_task() -> None:
    run = ToyRun()
    run.plan = replace(run.plan, shares={"rare": 0.2, "tags": 0.3, "texts": 0.5})
    run.weights = {"rare": 0.0, "tags": 0.0, "texts": 2.0}
    engine = adding(run)
    blocks = 60
    steps = blocks * run.plan.steps_per_block
    for step in range(steps):
        run.step(engine, step, micro=1000)
    alone = run.model()
    batch = collate({"texts": run.data["texts"]}, run.families, "first")
    (alone.loss_sums(alone(batch), batch)["texts"] / SIZES["texts"]).backward()
    expected = 2.0 * 0.5 * encoder_gradient(alone)
    found = encoder_gradient(engine.model) / steps
    assert (found - expected).norm() < 0.1 * expected.norm()


def test_a_coefficient_is_weight_times_share_over_terms() -> None:
    weights, numbers, terms = {"a": 2.0, "b": 0.5, "c": 1.0}, {"a": 3, "b": 1}, {"a": 3, "b": 8}
    found = coefficients("fixed", weights, numbers, terms)
    assert found == pytest.approx({"a": 2.0 * 0.75 / 3, "b": 0.5 * 0.25 / 8})


def test_a_task_whose_rows_have_no_terms_divides_by_nothing() -> None:
    assert coefficients("fixed", {"a": 1.0}, {"a": 2}, {"a": 0}) == {}


def test_several_micro_batches_are_as_good_as_one() -> None:
    run = ToyRun()
    weights, sums = [], []
    for micro in (1000, 40, 1):
        model = run.model()
        engine = PlainEngine(model, run.groups(model), 1.0)
        sums.append(run.step(engine, 0, micro=micro))
        weights.append(dict(engine.weights()))
    assert [len(run.batches(0, 0, 1, micro)[0]) for micro in (1000, 40, 1)] == [1, 2, 5]
    for other in (1, 2):
        torch.testing.assert_close(sums[other], sums[0], rtol=1e-5, atol=1e-6)
        for name, value in weights[0].items():
            torch.testing.assert_close(weights[other][name], value, rtol=1e-4, atol=1e-6)


def test_a_borrowed_row_changes_nothing() -> None:
    run = ToyRun()
    batches, factors = run.batches(0, 0, 1)
    borrowed = collate({"texts": run.data["texts"][:1]}, run.families, "first", 0.0)
    found = []
    for own in (batches, [*batches, borrowed]):
        engine = adding(run)
        sums = joint_step(engine, own, factors, 1, range(len(own)))
        found.append((sums, [p.grad for p in engine.model.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_a_task_without_rows_gives_zero_gradients_and_leaves_its_head_out() -> None:
    run = ToyRun()
    engine = adding(run)
    batch = collate({"texts": run.data["texts"][:3]}, run.families, "first")
    present: list[set[str]] = []
    engine.step = present.append  # type: ignore[method-assign]
    sums = joint_step(engine, [batch], {"texts": 1.0}, 1, [0])
    assert present == [{"texts"}]
    assert sums[:2].tolist() == [0, 0]
    for name, task, parameter in engine.model.named():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()) == (task in (None, "texts")), name


def test_the_sums_told_are_those_of_the_losses_whatever_the_weights() -> None:
    run = ToyRun()
    plain = run.step(adding(run), 0)
    run.weights = {"rare": 3.0, "tags": 0.0, "texts": 7.0}
    assert torch.equal(run.step(adding(run), 0), plain)
    assert not plain.requires_grad
    batches, _ = run.batches(0, 0, 1, 1000)
    model = run.model()
    losses = model.loss_sums(model(batches[0]), batches[0])
    expected = torch.stack([losses[task] for task in sorted(losses)])
    torch.testing.assert_close(plain, expected.detach(), rtol=1e-5, atol=1e-6)


def test_dropout_depends_on_the_seeds_alone() -> None:
    run = ToyRun()
    batches, factors = run.batches(0, 0, 1)
    assert len(batches) > 1

    def sums(first: int) -> Any:
        return joint_step(
            adding(run, 0.5), batches, factors, 1, range(first, first + len(batches))
        ).tolist()

    one = sums(0)
    torch.rand(5)
    assert sums(0) == one
    assert sums(1) != one


def test_each_micro_batch_needs_a_seed() -> None:
    run = ToyRun()
    batches, factors = run.batches(0, 0, 1)
    with pytest.raises(ValueError, match="zip"):
        joint_step(adding(run), batches, factors, 1, [0])


def stepped(batch_tokens: int) -> tuple[list[int], dict[str, Tensor]]:
    """Take two steps; give this rank's rows in the first, and the weights."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    run = ToyRun()
    run.plan = replace(run.plan, batch_tokens=batch_tokens)
    model = run.model()
    engine = PlainEngine(model, run.groups(model), 1.0, ranks)
    for step in range(2):
        run.step(engine, step, rank, ranks)
    batches, _ = run.batches(0, rank, ranks)
    rows = [int(b.weight) * sum(len(own) for own in b.rows.values()) for b in batches]
    return rows, {name: value.clone() for name, value in engine.weights()}


@pytest.mark.parametrize("batch_tokens", [1, 30])
def test_ranks_with_unequal_rows_or_none_step_as_one_rank_does(
    pair: Workers, batch_tokens: int
) -> None:
    found = pair.run(stepped, batch_tokens)
    assert sum(found[0][0]) != sum(found[1][0])
    run = ToyRun()
    run.plan = replace(run.plan, batch_tokens=batch_tokens)
    model = run.model()
    engine = PlainEngine(model, run.groups(model), 1.0)
    for step in range(2):
        run.step(engine, step)
    for _, weights in found:
        for name, value in engine.weights():
            torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-6)
