"""The state of a run between steps: shares and weights as set, averages in place of weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator import checkpoint, stages
from orchestrator.batch import Batch
from orchestrator.checkpoint import Progress
from orchestrator.training import Training
from tests.looped import MakeWork, last, trained


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
