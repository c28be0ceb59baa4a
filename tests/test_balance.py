"""Ways of weighing: each takes its own step, and tells what it must remember."""

from __future__ import annotations

import pytest
import torch
from toy import SIZES, ToyRun

from orchestrator.engine import PlainEngine

WAYS = ("fixed", "uncertainty", "famo", "pcgrad")


def weights(way: str) -> dict[str, torch.Tensor]:
    """Take a step in which tasks conflict; give the encoder's weights."""
    run = ToyRun(way)
    model = run.model()
    run.step(PlainEngine(model, run.groups(model), 0.0), 11)
    return {name: p.detach() for name, task, p in model.named() if task is None}


def test_each_way_moves_the_encoder_elsewhere() -> None:
    found = [torch.cat([value.flatten() for value in weights(way).values()]) for way in WAYS]
    for place, one in enumerate(found):
        assert all(not torch.allclose(one, other) for other in found[:place])


@pytest.mark.parametrize("way", WAYS)
def test_what_is_remembered_can_be_given_back(way: str) -> None:
    run, again = ToyRun(way), ToyRun(way)
    model = run.model()
    run.step(PlainEngine(model, run.groups(model), 0.0), 11)
    state = run.balance.state()
    assert {name.split("/")[1] for name in state} == (set(SIZES) if way == "famo" else set())
    again.balance.restore({**state, "encoder.embed.weight/exp_avg": torch.zeros(1)})
    assert again.balance.state().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in again.balance.state().items())
