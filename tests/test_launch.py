"""What Ray Train's workers make of an experiment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from toy import ToyRun
from workers import Workers

Build = Callable[..., dict[str, Any]]


def made(tree: dict[str, Any]) -> dict[str, Any]:
    """Make the engine of an experiment; tell what DeepSpeed was told."""
    from orchestrator.engine import join
    from orchestrator.experiment import parse
    from orchestrator.launch import engine

    join(torch.device("cpu"))
    run = ToyRun()
    model = run.model()
    found = engine(parse(tree), model, run.groups(model))
    inner = found._engine
    told = {
        "clip": inner.gradient_clipping(),
        "stage": inner.zero_optimization_stage(),
        "bucket": inner.zero_reduce_bucket_size(),
    }
    found.close()
    return told


def test_the_engine_clips_and_shards_as_the_experiment_says(
    alone: Workers, make_experiment: Build
) -> None:
    for clip, stage, bucket in ((0.25, 1, 70_000), (0.0, 2, 90_000)):
        changes = {
            "regularization.clip": clip,
            "deepspeed.zero_stage": stage,
            "deepspeed.config": {"zero_optimization": {"reduce_bucket_size": bucket}},
        }
        (told,) = alone.run(made, make_experiment(**changes))
        assert told == {"clip": clip, "stage": stage, "bucket": bucket}
