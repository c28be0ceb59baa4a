"""Stages, folds and the target stage on two ranks of DeepSpeed: stopped at any boundary or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from orchestrator import loop
from orchestrator.engine import DeepSpeedEngine, Engine, PlainEngine, join
from orchestrator.evaluate import Ranks
from orchestrator.experiment import parse
from orchestrator.prepare import Prepared
from orchestrator.work import Work
from tests.looped import Stopping, events, last, values
from tests.workers import Workers

Found = tuple[list[tuple[int, str]], dict[tuple[int, str], float], dict[str, Tensor]]


def run(
    tree: dict[str, Any], prepared: dict[str, Any], folder: str, zero: int | None, stops: list[int]
) -> Found:
    """Train a run on all ranks, or go on with it; give its events, numbers and last state."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    experiment, device = parse(tree), torch.device("cpu")

    def engine(model: Any, groups: Any) -> Engine:
        if zero is None:
            return PlainEngine(model, groups, 1.0, ranks)
        join(device)
        return DeepSpeedEngine(model, groups, 1.0, zero)

    Path(folder).mkdir(exist_ok=True)
    work = Work(
        run=Path(folder),
        experiment=experiment,
        prepared=Prepared.model_validate(prepared),
        fingerprint="f" * 64,
        world=Ranks(rank, ranks),
        device=device,
        make_engine=engine,
        stop=Stopping(*stops),
    )
    news = list(loop.train(work))
    dist.barrier()
    return events(news), values(news), last(work)


@pytest.fixture
def tree(tiny_experiment: Any) -> dict[str, Any]:
    return dict(
        tiny_experiment(
            stages=[
                {"name": "heads", "train": ["heads"], "steps": 2},
                {"name": "joint", "steps": 2},
                {"name": "target", "train": ["target"], "steps": 2},
            ],
            target="topic",
            stacking={"folds": 2, "fold_steps": 4},
            regularization={"dropout": 0.1, "ema": 0.5},
            train={"evaluate_every": 2, "evaluate_rows": 20, "precision": "fp32"},
            batch={"tokens": 128, "micro_tokens": 80},
        )
    )


@pytest.mark.parametrize(
    ("zero", "stops"),
    [(2, [4, 4]), pytest.param(3, [2, 7, 2], marks=pytest.mark.slow)],
    ids=["between folds and in the first stage", "in a fold, at the last boundary and after it"],
)
def test_two_ranks_stopped_at_boundaries_end_with_the_bits_of_untouched_ones(
    pair: Workers,
    tree: dict[str, Any],
    tiny_prepared: Prepared,
    tmp_path: Path,
    zero: int,
    stops: list[int],
) -> None:
    prepared = tiny_prepared.model_dump(mode="json")
    found, told, right = pair.run(run, tree, prepared, str(tmp_path / "whole"), zero, [])[0]
    assert found[-1] == (14, "trained")
    assert [step for step, event in found if event == "stage"] == [0, 2, 4, 6, 8, 10, 12]
    parts: dict[tuple[int, str], float] = {}
    reached = 0
    for stop in stops:
        reached += stop
        ended, some, _ = pair.run(run, tree, prepared, str(tmp_path / "halted"), zero, [stop])[0]
        assert ended[-1] == (reached, "stop")
        parts |= some
    _, rest, left = pair.run(run, tree, prepared, str(tmp_path / "halted"), zero, [])[0]
    assert parts | rest == told
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], value) for name, value in right.items())


def test_two_ranks_end_where_one_does(
    pair: Workers, alone: Workers, tree: dict[str, Any], tiny_prepared: Prepared, tmp_path: Path
) -> None:
    off = dict.fromkeys(("dropout", "attention_dropout", "head_dropout"), 0.0)
    plain = {**tree, "regularization": off}
    prepared = tiny_prepared.model_dump(mode="json")
    _, one, _ = alone.run(run, plain, prepared, str(tmp_path / "one"), None, [])[0]
    _, two, _ = pair.run(run, plain, prepared, str(tmp_path / "two"), 2, [])[0]
    losses = {key: value for key, value in one.items() if key[1].endswith("loss")}
    assert losses
    for key, value in losses.items():
        assert two[key] == pytest.approx(value, rel=1e-4), key
