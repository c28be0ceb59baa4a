"""DeepSpeed and the plain twin are the same optimizer, at every ZeRO stage, on one rank or two."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

from orchestrator.engine import DeepSpeedEngine, Engine, PlainEngine, join
from toy import SIZES, ToyRun
from workers import Workers

OPTIMIZERS = {
    "encoder": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
    "rare": {"name": "sgd", "momentum": 0.9, "lr": 0.1},
    "tags": {"name": "adam", "lr": 0.02},
    "texts": {"name": "adamw", "lr": 0.03},
}


def build(run: ToyRun, stage: int | None, dropout: float = 0.0) -> Engine:
    """Make an engine: a ZeRO stage, or None for the twin."""
    model = run.model(dropout)
    if stage is None:
        return PlainEngine(model, run.groups(model), 1.0, dist.get_world_size())
    join(torch.device("cpu"))
    return DeepSpeedEngine(model, run.groups(model), 1.0, stage)


def whole(engine: Engine) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in engine.weights()}


def trajectory(stage: int | None, steps: int) -> dict[str, Any]:
    """Train a few steps; give the global loss sums of each step and the last weights."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    run = ToyRun(**OPTIMIZERS)
    engine = build(run, stage)
    sums, absent = [], []
    for step in range(steps):
        before = whole(engine)
        local = run.step(engine, step, rank, ranks)
        dist.all_reduce(local)
        sums.append(local)
        after = whole(engine)
        here = {run.plan.tasks[t] for t in run.plan.step(step).tasks}
        for task in set(SIZES) - here:
            own = [n for n in before if n.startswith(f"{task}.")]
            absent.append(all(torch.equal(before[n], after[n]) for n in own))
    found = {"sums": torch.stack(sums), "weights": whole(engine), "absent": absent}
    if isinstance(engine, DeepSpeedEngine):
        engine.close()
    return found


STEPS = 5


@pytest.fixture(scope="module")
def expected(alone: Workers) -> dict[str, Any]:
    return alone.run(trajectory, None, STEPS)[0]


@pytest.mark.parametrize("stage", [None, 0, 1, 2, 3])
def test_two_ranks_reach_the_weights_and_losses_of_the_plain_twin_on_one(
    pair: Workers, expected: dict[str, Any], stage: int | None
) -> None:
    for found in pair.run(trajectory, stage, STEPS):
        torch.testing.assert_close(found["sums"], expected["sums"], rtol=1e-5, atol=1e-6)
        for name, value in expected["weights"].items():
            torch.testing.assert_close(found["weights"][name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_one_rank_reaches_the_weights_of_the_twin(
    alone: Workers, expected: dict[str, Any], stage: int
) -> None:
    found = alone.run(trajectory, stage, STEPS)[0]
    for name, value in expected["weights"].items():
        torch.testing.assert_close(found["weights"][name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stage", [None, 0, 1, 2, 3])
def test_a_head_whose_task_is_absent_keeps_its_bits(pair: Workers, stage: int | None) -> None:
    for found in pair.run(trajectory, stage, STEPS):
        assert found["absent"], "no task was absent from any step: the test shows nothing"
        assert all(found["absent"])
