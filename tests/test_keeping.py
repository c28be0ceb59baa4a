"""What is held in memory goes on, and ends, as what lies on disk does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from orchestrator import checkpoint, loop
from orchestrator.keeping import Disk, Memory
from tests.looped import MakeWork, events, trained, values

TLMT = {
    "target": "topic",
    "stages": "tlmt",
    "stacking.folds": 2,
    "train.steps": 8,
    "regularization": {"ema": 0.8, "l2_sp": 0.1, "dropout": 0.1},
}
SETTINGS: dict[str, Mapping[str, Any]] = {
    "joint": {"train.evaluate_rows": "all"},
    "drawn": {
        "regularization": {"l2_sp": 0.1, "mixout": 0.2, "layer_decay": 0.8, "reinit_layers": 1},
        "train.patience": 1,
        "train.evaluate_every": 1,
        "weighting": "famo",
    },
    "frozen heads": {"stages": "frozen_heads"},
    "gradual": {"stages": "gradual", "train.steps": 12, "optimizer.name": "lion"},
    "helpers first": {"stages": "helpers_first", "target": "topic"},
    "lora": {"encoder": {"model": "tiny", "lora": {"rank": 2}}},
    "tlmt": TLMT,
}


def told(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in weights.items()}


@pytest.mark.parametrize("name", SETTINGS)
def test_weights_in_memory_are_those_on_disk_to_the_last_bit(work: MakeWork, name: str) -> None:
    own, other = work("disk", **SETTINGS[name]), work("memory", **SETTINGS[name])
    on_disk = trained(own)
    other.run.mkdir()
    memory = Memory(other)
    in_memory = list(loop.train(other, memory))
    assert values(in_memory) == values(on_disk)
    assert events(in_memory) == events(on_disk)
    assert not any(news.checkpoint for news in in_memory)
    assert not (other.run / checkpoint.FOLDER).exists()

    families = {task: own.prepared.family(task) for task in own.experiment.tasks}
    disk = Disk(own)
    for here, there in ((memory.newest(), disk.newest()), (memory.best(), disk.best())):
        assert here is not None
        assert there is not None
        found = told({n: p for n, _, p in here.model(own.experiment, families).named()})
        expected = told({n: p for n, _, p in there.model(own.experiment, families).named()})
        if name == "lora":  # on disk its matrices are one with the encoder's
            assert here.progress.scores == there.progress.scores
            continue
        assert found.keys() == expected.keys()
        assert [n for n, value in found.items() if not torch.equal(value, expected[n])] == []
    assert memory.best().progress.scores == disk.best().progress.scores
    assert memory.best().progress.best_step == disk.best().progress.best_step
    assert memory.began == disk.best().progress.began


def test_before_the_first_evaluation_there_is_nothing(work: MakeWork) -> None:
    memory = Memory(work())
    assert memory.newest() is None
    assert memory.began == (0,)
    with pytest.raises(AssertionError, match="ends with an evaluation"):
        memory.best()


def test_what_is_kept_does_not_move_with_the_weights_in_training(work: MakeWork) -> None:
    own = work(**{"train.evaluate_every": 1})
    own.run.mkdir()
    memory = Memory(own)
    copies: dict[int, dict[str, Tensor]] = {}
    for news in loop.train(own, memory):
        if "score" in news.values or not news.step:
            continue
        best = memory.newest()
        if best is not None:
            copies.setdefault(
                best.progress.step, {n: value.clone() for n, value in best.weights.items()}
            )
            now = copies[best.progress.step]
            assert all(torch.equal(value, now[n]) for n, value in best.weights.items())
    assert len(copies) >= 1
    assert memory.best().progress.step in copies
