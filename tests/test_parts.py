"""A trial in parts: each goes on from the weights of the one before, under its own settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator import checkpoint
from orchestrator.experiment import parse
from orchestrator.prepare import Prepared
from orchestrator.studies.trial import SCRATCH, Part, Trial

ITEMS = ("items-test.parquet", "items-validation.parquet")
Begin = Callable[..., Trial]


@pytest.fixture
def begin(make_experiment: Any, tiny_prepared: Prepared, tmp_path: Path) -> Begin:
    """Begin a trial of six steps, or a part of it, in a folder of its own."""

    def begun(name: str, part: Part | None = None, **changes: Any) -> Trial:
        fixed = {"train.steps": 6, "train.precision": "fp32", **changes}
        experiment = parse(make_experiment(**fixed))
        data, device = tiny_prepared.under(experiment), torch.device("cpu")
        return Trial(tmp_path / name, experiment, data, device, part=part)

    return begun


@pytest.mark.parametrize("strength", [{}, {"ema": 0.8, "l2_sp": 0.1}, {"mixout": 0.5}], ids=str)
def test_a_trial_in_parts_ends_as_one_that_is_whole(
    begin: Begin, tmp_path: Path, strength: dict[str, float]
) -> None:
    changes = {"train.evaluate_every": 2, "regularization": strength}
    trial = begin("whole", **changes)
    while trial.look():
        pass
    whole = trial.finish()
    expected = {file: (tmp_path / "whole" / file).read_bytes() for file in ITEMS}
    before = None
    for name in ("first", "second", "third"):
        found = begin(name, Part(before), **changes).advance()
        before = str(tmp_path / name)
    assert (found.status, found.curve) == ("finished", whole.curve)
    assert (found.score, found.best_step, found.scores) == (
        whole.score,
        whole.best_step,
        whole.scores,
    )
    assert (found.examples_seen, found.drift) == (whole.examples_seen, whole.drift)
    assert {file: (tmp_path / "third" / file).read_bytes() for file in ITEMS} == expected
    assert not (tmp_path / "third" / SCRATCH).exists()


def test_a_part_goes_on_under_its_own_settings(begin: Begin, tmp_path: Path) -> None:
    every = {"train.evaluate_every": 2}
    start = begin("first", Part(None), **every).advance()
    heads = []
    for name, rate in (("slow", 1e-6), ("quick", 1e-3), ("again", 1e-3)):
        changes = {**every, "optimizer.lr": rate, "tasks.topic.weight": 2.0}
        found = begin(name, Part(str(tmp_path / "first")), **changes).advance()
        assert found.status == "stopped"
        assert found.curve[0] == start.curve[0]
        assert found.settings["optimizer.lr"] == rate
        newest = checkpoint.newest(tmp_path / name / SCRATCH)
        assert newest is not None
        heads.append((newest / checkpoint.HEADS).read_bytes())
    assert heads[0] != heads[1] == heads[2]


@pytest.mark.parametrize(
    "strength",
    [
        {"mixout": 0.5, "r_drop": 1.0},
        {"l2_sp": 0.1, "layer_decay": 0.8},
        {"dropout": 0.0, "attention_dropout": 0.3, "head_dropout": 0.4, "label_smoothing": 0.1},
    ],
    ids=str,
)
def test_a_strength_may_come_and_go_from_part_to_part(
    begin: Begin, tmp_path: Path, strength: dict[str, float]
) -> None:
    parent = None
    for name, own in (("without", {}), ("with", strength), ("then without", {})):
        changes = {"train.evaluate_every": 2, "regularization": own}
        found = begin(name, Part(parent), **changes).advance()
        parent = str(tmp_path / name)
    assert found.status == "finished"
    assert [step for step, _ in found.curve] == [2, 4, 6]
