"""Folds: no row of any task tells a fold's model about the texts that it answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator import folds
from orchestrator.document import override
from orchestrator.experiment import parse
from orchestrator.prepare import Prepared, prepare
from tests.looped import MakeWork, Stopping, events, last, making, trained, values

Rows = list[dict[str, Any]]
COLOURS = ["red", "green", "blue", "black", "white", "grey"]
THINGS = ["door", "boat", "hat", "lamp", "cup", "shoe", "kite"]
TEXTS = [f"a {colour} {thing}" for colour in COLOURS for thing in THINGS]


def written(folder: Path, rows: Rows) -> str:
    folder.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        lines = rows if split == "train" else [{**row, "text": f"no {row['text']}"} for row in rows]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return str(folder)


Made = tuple[Prepared, MakeWork]


@pytest.fixture
def shared(tmp_path: Path) -> Callable[..., Made]:
    """Prepare a target and two helpers with shared texts, in other writing, and pairs of them."""

    def make(name: str = "data", flipped: int | None = None, **changes: Any) -> Made:
        target = [
            {"text": t, "label": int(i % 2 == 0), "odd": f"{t} {i}"}
            for i, t in enumerate(TEXTS[:30])
        ]
        if flipped is not None:
            target[flipped]["label"] = 1 - int(target[flipped]["label"])
        helper = [{"text": f"{t.title()}!", "label": t.split()[1]} for t in TEXTS[10:]]
        several = zip(TEXTS[35:], TEXTS[:7], strict=True)
        pairs = [{"text": a, "pair": b, "label": len(a) % 2} for a, b in several]
        found = {"own": target, "colour": helper, "pairs": pairs}
        data: dict[str, Any] = {
            t: {"path": written(tmp_path / name / t, r)} for t, r in found.items()
        }
        data["pairs"]["pair"] = "pair"
        tree: dict[str, Any] = {
            "name": "folds",
            "encoder": {"model": "tiny"},
            "tasks": {task: {"family": "classify", "data": own} for task, own in data.items()},
            "target": "own",
            "stages": "tlmt",
            "stacking": {"folds": 3, "fold_steps": 2},
            "train": {"evaluate_every": 3},
            "storage": {"path": str(tmp_path / "runs")},
        }
        tree = override(tree, changes)
        prepared = prepare(parse(tree), [], tmp_path / "cache", processes=1)
        return prepared, making(lambda **more: override(tree, more), tmp_path, prepared)

    return make


def texts(prepared: Prepared, task: str, rows: Any) -> set[int]:
    """Give the hashes of the texts of some training rows."""
    found, row = prepared.open(task, "train").texts
    return set(found[np.isin(row, rows)].tolist())


def test_no_text_of_a_fold_is_in_the_rows_that_its_model_learns_from(
    shared: Callable[..., Made],
) -> None:
    prepared, _ = shared()
    assigned = folds.assigned(prepared, 3)
    for fold in range(3):
        inside: set[int] = set()
        outside: set[int] = set()
        for task, own in assigned.items():
            inside |= texts(prepared, task, np.flatnonzero(own == fold))
            outside |= texts(prepared, task, np.flatnonzero(own != fold))
        assert inside
        assert inside.isdisjoint(outside)


def test_a_text_is_the_same_in_any_writing_and_in_a_pair(shared: Callable[..., Made]) -> None:
    prepared, make = shared()
    stacked = folds.of(make().experiment, prepared)
    assert stacked is not None
    overlap = folds.overlapping(prepared, "own", stacked.features)
    assert overlap.tolist() == [place < 7 or place >= 10 for place in range(30)]


def test_what_a_fold_answers_does_not_depend_on_labels_of_its_texts(
    shared: Callable[..., Made],
) -> None:
    place, answers = 12, {}
    for name, flipped in (("as it is", None), ("flipped", place)):
        prepared, make = shared(name, flipped)
        own = make(name, **{"stacking.fold_steps": 12})  # every row is read
        trained(own)
        answers[name] = [np.load(folds.answers(own.run, fold)) for fold in range(3)]
    mine = int(folds.assigned(prepared, 3)["own"][place])
    for fold in range(3):
        same = np.array_equal(answers["as it is"][fold], answers["flipped"][fold])
        assert same == (fold == mine), fold


def test_rows_that_share_no_text_need_no_folds(shared: Callable[..., Made]) -> None:
    _, make = shared(**{"tasks.own.data.text": "odd"})
    assert [stage.name for stage in make().stages] == ["joint", "target"]


@pytest.mark.parametrize("stop", [1, 4, 8, 10, 11], ids=str)
def test_a_run_stopped_in_a_fold_or_in_the_target_stage_ends_with_the_same_bits(
    shared: Callable[..., Made], stop: int
) -> None:
    _, make = shared()
    changes = {"regularization.dropout": 0.1, "train.evaluate_every": 2}
    untouched, halted = make("untouched", **changes), make("halted", Stopping(stop), **changes)
    expected, parts = trained(untouched), trained(halted)
    assert events(parts)[-1] == (stop, "stop")
    torch.manual_seed(stop)
    halted = make("halted", **changes)
    assert values(parts + trained(halted)) == values(expected)
    found, right = last(halted), last(untouched)
    assert all(torch.equal(found[name], value) for name, value in right.items())


def test_without_folds_a_run_tells_how_many_texts_leak(shared: Callable[..., Made]) -> None:
    prepared, make = shared()
    leaking = make(**{"stacking.folds": 0})
    assert [stage.name for stage in leaking.stages] == ["joint", "target"]
    (told,) = folds.leaks(leaking.experiment, prepared)
    assert "27 of 30 training rows of own" in told
    assert "stacking.folds=5" in told
    assert folds.leaks(make().experiment, prepared) == []


def test_hidden_states_of_other_models_are_refused(shared: Callable[..., Made]) -> None:
    prepared, make = shared()
    (problem,) = folds.refused(make(**{"stacking.features": "hidden"}).experiment, prepared)
    assert problem.place == "stacking.features"
    assert "hidden for colour, pairs, but own shares training texts" in problem.text
    assert folds.refused(make().experiment, prepared) == []
