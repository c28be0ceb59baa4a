"""DeepSpeed and the plain twin are the same optimizer, at every ZeRO stage, on one rank or two."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from toy import SIZES, ToyRun
from workers import Workers

from orchestrator.engine import DeepSpeedEngine, Engine, PlainEngine, join
from orchestrator.model import MultiTaskModel
from orchestrator.optimizer import Layers

OPTIMIZERS = {
    "encoder": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
    "rare": {"name": "sgd", "momentum": 0.9, "lr": 0.1},
    "tags": {"name": "adam", "lr": 0.02},
    "texts": {"name": "lion", "lr": 0.003, "betas": (0.9, 0.99), "weight_decay": 0.1},
}


def build(run: ToyRun, stage: int | None, model: MultiTaskModel) -> Engine:
    """Make an engine with L2-SP and averages: a ZeRO stage, or None for the twin."""
    made = run.groups(model, Layers(lambda name: 1, 1, penalties={"l2_sp": 0.5}))
    engine: Engine
    if stage is None:
        engine = PlainEngine(model, made, 1.0, dist.get_world_size())
    else:
        join(torch.device("cpu"))
        engine = DeepSpeedEngine(model, made, 1.0, stage)
    first = {name: p.detach() for name, _, p in run.model().named()}
    engine.anchor({name: value for name, value in first.items() if name.startswith("encoder.")})
    engine.average(first, 0.5)
    return engine


def whole(engine: Engine) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in engine.weights()}


def trajectory(
    stage: int | None,
    steps: int,
    micro: int = 25,
    weighting: str = "fixed",
    twice: dict[str, float] | None = None,
    dropout: float = 0.0,
) -> dict[str, Any]:
    """Train a few steps; give the global loss sums of each step and the last weights."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    run = ToyRun(weighting, **OPTIMIZERS)
    run.twice = twice or {}
    engine = build(run, stage, run.model(dropout))
    sums, absent = [], []
    for step in range(steps):
        before = whole(engine)
        local = run.step(engine, step, rank, ranks, micro)
        dist.all_reduce(local)
        sums.append(local)
        after = whole(engine)
        here = {run.plan.tasks[t] for t in run.plan.step(step).tasks}
        for task in set(SIZES) - here:
            own = [n for n in before if n.startswith(f"{task}.")]
            absent.append(all(torch.equal(before[n], after[n]) for n in own))
    averages = {f"{name} averaged": value.clone() for name, value in engine.averaged()}
    weights = whole(engine) | averages | run.balance.state()
    found = {"sums": torch.stack(sums), "weights": weights, "absent": absent}
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


@pytest.fixture(scope="module")
def uncertain(alone: Workers) -> dict[str, Any]:
    return alone.run(trajectory, None, STEPS, 25, "uncertainty")[0]


@pytest.mark.parametrize("stage", [None, 0, 2, 3])
def test_learnt_weights_are_the_same_at_every_stage(
    pair: Workers, uncertain: dict[str, Any], stage: int | None
) -> None:
    moved = [v for n, v in uncertain["weights"].items() if n.endswith("log-variance")]
    assert len(moved) == len(SIZES)
    assert all(moved)
    for found in pair.run(trajectory, stage, STEPS, 25, "uncertainty"):
        assert all(found["absent"])
        for name, value in uncertain["weights"].items():
            torch.testing.assert_close(found["weights"][name], value, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def levelled(alone: Workers) -> dict[str, Any]:
    return alone.run(trajectory, None, STEPS, 25, "famo")[0]


@pytest.mark.parametrize("stage", [None, 0, 2, 3])
def test_weights_by_how_far_losses_fall_are_the_same_at_every_stage(
    pair: Workers, levelled: dict[str, Any], stage: int | None
) -> None:
    assert len([name for name in levelled["weights"] if name.startswith("famo/")]) == 4 * len(SIZES)
    both = pair.run(trajectory, stage, STEPS, 25, "famo")
    for found in both:
        assert all(found["absent"])
        for name, value in levelled["weights"].items():
            torch.testing.assert_close(found["weights"][name], value, rtol=1e-4, atol=1e-5)
            if name.startswith("famo/"):
                assert torch.equal(found["weights"][name], both[0]["weights"][name]), name


@pytest.fixture(scope="module")
def projected(alone: Workers) -> dict[str, Any]:
    return alone.run(trajectory, None, STEPS, 1000, "pcgrad")[0]


@pytest.mark.parametrize("stage", [None, 0, 1, 2])
def test_gradients_are_combined_alike_on_any_ranks_up_to_stage_two(
    pair: Workers, projected: dict[str, Any], stage: int | None
) -> None:
    for found in pair.run(trajectory, stage, STEPS, 25, "pcgrad"):
        assert all(found["absent"])
        torch.testing.assert_close(found["sums"], projected["sums"], rtol=1e-5, atol=1e-6)
        for name, value in projected["weights"].items():
            torch.testing.assert_close(found["weights"][name], value, rtol=1e-4, atol=1e-5)


TWICE = {"rare": 0.5, "tags": 2.0}


@pytest.mark.parametrize("stage", [None, 3])
def test_reading_rows_twice_changes_nothing_where_nothing_is_dropped(
    pair: Workers, expected: dict[str, Any], stage: int | None
) -> None:
    for found in pair.run(trajectory, stage, STEPS, 25, "fixed", TWICE):
        torch.testing.assert_close(found["sums"], expected["sums"], rtol=1e-5, atol=1e-6)
        for name, value in expected["weights"].items():
            torch.testing.assert_close(found["weights"][name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_readings_agree_alike_at_every_stage(pair: Workers, stage: int) -> None:
    arguments = (STEPS, 25, "fixed", TWICE, 0.3)
    twin = pair.run(trajectory, None, *arguments)[0]
    once = pair.run(trajectory, None, STEPS, 25, "fixed", {}, 0.3)[0]
    assert not torch.allclose(once["sums"], twin["sums"]), "nothing was read twice"
    for found in pair.run(trajectory, stage, *arguments):
        torch.testing.assert_close(found["sums"], twin["sums"], rtol=1e-5, atol=1e-6)
        for name, value in twin["weights"].items():
            torch.testing.assert_close(found["weights"][name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("micro", [15, 25, 60])
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("stage", [None, 0, 1, 2, 3])
def test_every_stage_on_any_ranks_in_any_micro_batches_takes_the_same_steps(
    request: pytest.FixtureRequest,
    expected: dict[str, Any],
    stage: int | None,
    ranks: int,
    micro: int,
) -> None:
    workers: Workers = request.getfixturevalue("alone" if ranks == 1 else "pair")
    for found in workers.run(trajectory, stage, STEPS, micro):
        torch.testing.assert_close(found["sums"], expected["sums"], rtol=1e-5, atol=1e-6)
        for name, value in expected["weights"].items():
            torch.testing.assert_close(found["weights"][name], value, rtol=1e-4, atol=1e-5)
        assert found["absent"]
        assert all(found["absent"])


def begin(stage: int | None, steps: int, dropout: float) -> dict[str, Any]:
    """Train from the first weights; give weights and optimizer state by name."""
    return proceed(stage, 0, steps, dropout, None)


def proceed(
    stage: int | None, start: int, stop: int, dropout: float, left: dict[str, Any] | None
) -> dict[str, Any]:
    """Train some steps of the toy run, going on from what was left."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    run = ToyRun(**OPTIMIZERS)
    model = run.model(dropout)
    if left is not None:
        with torch.no_grad():
            for name, _, parameter in model.named():
                parameter.copy_(left["weights"][name])
    engine = build(run, stage, model)
    if left is not None:
        engine.restore(left["state"])
    for step in range(start, stop):
        run.step(engine, step, rank, ranks)
    found = {"weights": whole(engine), "state": dict(engine.state())}
    if isinstance(engine, DeepSpeedEngine):
        engine.close()
    return found


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_an_interrupted_engine_ends_with_the_bits_of_an_untouched_one(
    pair: Workers, stage: int
) -> None:
    untouched = pair.run(begin, stage, 6, 0.1)[0]
    left = pair.run(begin, stage, 1, 0.1)[0]
    left = pair.run(proceed, stage, 1, 4, 0.1, left)[0]
    ended = pair.run(proceed, stage, 4, 6, 0.1, left)[0]
    assert ended["state"].keys() == untouched["state"].keys()
    for kind in ("weights", "state"):
        for name, value in untouched[kind].items():
            assert torch.equal(ended[kind][name], value), (kind, name)


@pytest.mark.parametrize(("pairs", "alones"), [(2, 0), (3, 2), (1, 3)])
def test_state_moves_between_worker_counts_and_zero_stages(
    pair: Workers, alone: Workers, expected: dict[str, Any], pairs: int, alones: int
) -> None:
    left = pair.run(begin, pairs, 2, 0.0)[0]
    left = alone.run(proceed, alones, 2, 4, 0.0, left)[0]
    ended = pair.run(proceed, pairs, 4, STEPS, 0.0, left)[0]
    for name, value in ended["weights"].items():
        torch.testing.assert_close(value, expected["weights"][name], rtol=1e-4, atol=1e-5)


def test_a_head_that_never_stepped_has_no_state(pair: Workers) -> None:
    run = ToyRun(**OPTIMIZERS)
    tasks = [{run.plan.tasks[t] for t in run.plan.step(step).tasks} for step in range(20)]
    step = next(step for step, seen in enumerate(tasks) if seen != set(SIZES))
    state = pair.run(proceed, 2, step, step + 1, 0.0, None)[0]["state"]
    assert {name.split(".")[0] for name in state} == {"encoder", *tasks[step]}


def test_settings_of_one_task_move_only_its_own_head(alone: Workers) -> None:
    before = alone.run(one_step, {})[0]
    after = alone.run(one_step, {"texts": {"lr": 0.5, "weight_decay": 0.3}})[0]
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("texts.") for name in moved)


def one_step(changed: dict[str, Any]) -> dict[str, torch.Tensor]:
    run = ToyRun(**changed)
    model = run.model()
    engine = PlainEngine(model, run.groups(model), 0.0)
    run.step(engine, 0)
    return whole(engine)


def nothing_built(folder: str) -> list[str]:
    os.environ["TORCH_EXTENSIONS_DIR"] = folder
    begin(2, 1, 0.0)
    return os.listdir(folder)


def test_no_operator_is_ever_compiled(pair: Workers, tmp_path: Path) -> None:
    assert pair.run(nothing_built, str(tmp_path)) == [[], []]
