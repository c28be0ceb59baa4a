"""The state of a run between steps: shares and weights as set, averages in place of weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator import checkpoint, stages
from orchestrator.batch import Batch
from orchestrator.checkpoint import Progress
from orchestrator.experiment import parse
from orchestrator.prepare import prepare
from orchestrator.training import Training
from tests.looped import MakeWork, last, making, trained


@pytest.mark.parametrize(
    ("mixture", "expected"),
    [
        ({"uniform": True}, 0.5),
        ({"shares": {"sentiment": 0.9, "topic": 0.1}}, 0.9),
        ({"temperature": 1.0}, 2 / 3),
        ({"temperature": 2.0}, 2**0.5 / (1 + 2**0.5)),
    ],
)
def test_the_mixture_decides_the_shares(
    work: MakeWork, mixture: dict[str, Any], expected: float
) -> None:
    lengths = {"sentiment": np.full(200, 10, np.int32), "topic": np.full(100, 10, np.int32)}
    own = work(mixture=mixture)
    plan = stages.planned(own.experiment, lengths, own.stages[0])
    assert plan.shares["sentiment"] == pytest.approx(expected)


def test_weights_of_tasks_scale_their_part_of_the_objective(work: MakeWork) -> None:
    factors = []
    for name, weight in (("a", 1.0), ("b", 3.0)):
        own = work(name, **{"tasks.topic.weight": weight})
        training = Training(own, own.stages[0], Progress(0))
        _, part = training.dealer.deal(0, training.engine.model)
        factors.append(part.coefficients)
    assert factors[1]["topic"] == pytest.approx(3 * factors[0]["topic"])
    assert factors[1]["sentiment"] == factors[0]["sentiment"]


def test_every_strength_reaches_what_it_acts_on(
    tiny_experiment: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Each is set to a value of its own, also those of one task, and found where it works."""
    strengths = {
        "dropout": 0.21,
        "attention_dropout": 0.22,
        "head_dropout": 0.23,
        "label_smoothing": 0.24,
        "l2_sp": 0.25,
        "mixout": 0.26,
        "layer_decay": 0.5,
        "reinit_layers": 1,
    }
    own = {"head_dropout": 0.31, "label_smoothing": 0.32}
    head = {"name": "sgd", "lr": 0.3, "momentum": 0.4, "schedule": "cosine", "warmup": 0.5}
    changes = {"regularization": strengths, "optimizer": {"lr": 0.01, "betas": [0.5, 0.6]}}
    changes |= {"tasks.topic.regularization": own, "tasks.topic.optimizer": head}
    prepared = prepare(parse(tiny_experiment(**changes)), [], tmp_path / "cache", processes=1)
    make = making(tiny_experiment, tmp_path, prepared)
    work, plain = make(**changes), make("plain")
    training = Training(work, work.stages[0], Progress(0))
    model = training.engine.model

    def rates(module: torch.nn.Module) -> set[float]:
        return {m.p for m in module.modules() if isinstance(m, torch.nn.Dropout)}

    config = model.encoder.network.config
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.21, 0.22)
    assert rates(model.head("sentiment")) == {0.23}
    assert rates(model.head("topic")) == {0.31}
    smoothing = {task: family.label_smoothing for task, family in training.families.items()}
    assert smoothing == {"sentiment": 0.24, "topic": 0.32}

    linear = [n for n, m in model.encoder.network.named_modules() if isinstance(m, torch.nn.Linear)]
    mixed = {n: getattr(model.encoder.network.get_submodule(n), "rate", None) for n in linear}
    assert {rate for name, rate in mixed.items() if ".layer.1." not in name} == {0.26}
    assert {rate for name, rate in mixed.items() if ".layer.1." in name} == {None}
    first = dict(Training(plain, plain.stages[0], Progress(0)).engine.weights())
    moved = {n for n, w in training.engine.weights() if not torch.equal(first[n], w)}
    assert moved
    assert all(".layer.1." in name for name in moved), "the top layer alone is drawn anew"

    groups = {group["name"]: group for group in training.engine.optimizer.param_groups}
    top, below = groups["encoder.2"], groups["encoder.1"]
    assert (top["base_lr"], below["base_lr"]) == (0.01, 0.005)
    assert (top["penalties"], below["penalties"]) == ({}, {"l2_sp": 0.25})
    assert all(torch.equal(training.engine.optimizer.anchors[p], p) for p in below["params"])
    assert {group["betas"] for name, group in groups.items() if "topic" not in name} == {(0.5, 0.6)}
    found = groups["topic"]
    assert {key: found[key] for key in ("momentum", "schedule", "warmup")} == {
        key: head[key] for key in ("momentum", "schedule", "warmup")
    }
    assert (found["algorithm"], found["base_lr"]) == ("sgd", 0.3)


def test_rows_that_are_read_twice_count_once_and_fill_micro_batches_twice(work: MakeWork) -> None:
    runs = [
        work(f"{alpha}", **{"tasks.topic.regularization.r_drop": alpha}) for alpha in (0.0, 1.0)
    ]
    plain, drop = (Training(own, own.stages[0], Progress(0)) for own in runs)
    (batches, once), (doubled, twice) = (t.dealer.deal(0, t.engine.model) for t in (plain, drop))
    assert once == replace(twice, borrowed=once.borrowed)

    def rows(found: list[Batch], task: str) -> int:
        return sum(len(batch.rows[task]) for batch in found)

    assert rows(doubled, "topic") == 2 * rows(batches, "topic") > 0
    assert rows(doubled, "sentiment") == rows(batches, "sentiment") > 0
    limit = plain.experiment.batch.micro_tokens
    assert all(len(batch.input_ids) <= limit for batch in doubled)
    assert len(doubled) > len(batches)
    assert drop.evaluate().scores == plain.evaluate().scores


def test_averages_are_what_is_scored_and_saved_and_the_weights_go_on_beside_them(
    work: MakeWork,
) -> None:
    keep, taken = 0.75, {"train.steps": 1, "train.evaluate_every": 1}
    plain, averaged = work("plain", **taken), work("mean", **taken, **{"regularization.ema": keep})
    trained(plain)
    before = Training(plain, plain.stages[0], Progress(0)).engine.weights()
    found, after = {}, last(plain)
    for name, first in before:
        found[name] = keep * first.detach() + (1 - keep) * after[name]
    trained(averaged)
    saved = last(averaged)
    for name, value in found.items():
        torch.testing.assert_close(saved[name], value, rtol=1e-5, atol=1e-7)
        assert torch.equal(saved[f"{name}{checkpoint.RAW}"], after[name])
