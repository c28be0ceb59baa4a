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
from orchestrator.batch import GIVEN
from orchestrator.checkpoint import Progress
from orchestrator.document import override
from orchestrator.experiment import parse
from orchestrator.keeping import Disk
from orchestrator.prepare import Prepared, prepare
from orchestrator.training import Training
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

    def make(
        name: str = "data",
        flipped: dict[str, int] | None = None,
        hub: bool = False,
        **changes: Any,
    ) -> Made:
        target: Rows = [
            {"text": t, "label": int(i % 2 == 0), "odd": f"{t} {i}"}
            for i, t in enumerate(TEXTS[:30])
        ]
        helper: Rows = [{"text": f"{t.title()}!", "label": t.split()[1]} for t in TEXTS[10:]]
        for task, place in (flipped or {}).items():
            row = {"own": target, "colour": helper}[task][place]
            others = (
                [1 - row["label"]] if task == "own" else sorted({*COLOURS[2:]} - {row["label"]})
            )
            row["label"] = others[0]
        several = zip(TEXTS[:1] * 7 if hub else TEXTS[35:], TEXTS[:7], strict=True)
        pairs = [{"text": a, "pair": b, "label": len(b) % 2} for a, b in several]
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
    prepared, make = shared()
    run = make()
    stacked = folds.of(run.experiment, prepared)
    assert stacked is not None
    answered: list[int] = []
    for stage in (stage for stage in run.stages if stage.fold is not None):
        asked = folds.asked(run.experiment, prepared, stacked, int(stage.fold or 0))
        inside = texts(prepared, "own", asked)
        assert inside
        for task, rows in folds.training_rows(run.experiment, prepared, stage).items():
            assert isinstance(rows, folds.Part)
            left = rows._indices
            assert inside.isdisjoint(texts(prepared, task, left))
            assert 0 < len(left) < len(prepared.open(task, "train"))
        answered += asked
    overlap = folds.overlapping(prepared, "own", stacked.features)
    assert sorted(answered) == np.flatnonzero(overlap).tolist(), "each row is answered once"


def test_a_text_is_the_same_in_any_writing_and_in_a_pair(shared: Callable[..., Made]) -> None:
    prepared, make = shared()
    stacked = folds.of(make().experiment, prepared)
    assert stacked is not None
    overlap = folds.overlapping(prepared, "own", stacked.features)
    assert overlap.tolist() == [place < 7 or place >= 10 for place in range(30)]


def test_what_a_fold_answers_does_not_depend_on_labels_of_its_texts(
    shared: Callable[..., Made],
) -> None:
    """Labels of the target, and of a helper, of a text that the last fold answers."""
    prepared, make = shared()
    stacked = folds.of(make().experiment, prepared)
    assert stacked is not None
    last_fold = folds.asked(make().experiment, prepared, stacked, 2)
    place = next(row for row in last_fold if row >= 10)
    answers = {}
    for name, flipped in (
        ("as it is", {}),
        ("target", {"own": place}),
        ("helper", {"colour": place - 10}),
    ):
        _, make = shared(name, flipped)
        own = make(name, **{"stacking.fold_steps": 12})  # every row is read
        trained(own)
        answers[name] = [np.load(folds.answers(own.run, fold)) for fold in range(3)]
    for name in ("target", "helper"):
        same = [
            np.array_equal(*pair) for pair in zip(answers["as it is"], answers[name], strict=True)
        ]
        assert same == [False, False, True], name


def test_the_targets_rows_bring_what_their_own_fold_answered(shared: Callable[..., Made]) -> None:
    prepared, make = shared()
    own = make()
    trained(own)
    stacked = folds.of(own.experiment, prepared)
    assert stacked is not None
    training = Training(own, own.stages[-1], Progress(8, (0, 2, 4, 6)), start=Disk(own).newest())
    brought = training.train["own"]
    answered = set()
    for fold in range(3):
        said, start = np.load(folds.answers(own.run, fold)), 0
        for row in folds.asked(own.experiment, prepared, stacked, fold):
            tokens = int(prepared.open("own", "train").lengths[row])
            given = said[start : start + tokens]
            found = brought._rows.example(row)[GIVEN].reshape(tokens, -1)
            assert np.array_equal(found, given)
            start += tokens
            answered.add(row)
    others = set(range(30)) - answered
    assert others
    assert all(np.isnan(brought._rows.example(row)[GIVEN]).all() for row in others)


def test_fold_models_and_the_shared_one_begin_with_the_first_weights(
    shared: Callable[..., Made],
) -> None:
    """The stages before the target's go as they would without folds."""
    still = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0}
    _, make = shared(regularization=still)
    with_folds, without = make("with"), make("without", **{"stacking.folds": 0})
    found, plain = values(trained(with_folds)), values(trained(without))
    taken = 3 * 2
    joint = {key: v for key, v in plain.items() if key[0] <= 3 and key[1].endswith("/loss")}
    assert joint
    for (step, key), value in joint.items():
        assert found[step + taken, key] == pytest.approx(value, rel=1e-6), (step, key)
    first = {fold: found[1 + 2 * fold, f"own/fold-{fold + 1}/loss"] for fold in range(3)}
    untrained = found[1 + taken, "own/train/loss"]
    assert all(abs(loss - untrained) < 0.25 for loss in first.values()), first


@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_every_fold_answers_however_few_its_steps(steps: int, shared: Callable[..., Made]) -> None:
    several = [
        {"name": "heads", "train": ["heads"], "steps": 12},
        {"name": "joint", "steps": 1},
        {"name": "target", "train": ["target"], "steps": 2},
    ]
    _, make = shared(**{"stages": several, "stacking.fold_steps": steps})
    own = make(**{"train.steps": 15})
    for fold in range(3):
        stages = [stage for stage in own.stages if stage.fold == fold]
        assert sum(stage.steps for stage in stages) == steps
        assert [stage.answers for stage in stages] == [False] * (len(stages) - 1) + [True]


def test_texts_of_a_row_of_the_target_are_in_one_fold_and_a_shared_one_is_told(
    shared: Callable[..., Made],
) -> None:
    """Pairs with one text in common hang together; other tasks' pairs bind nothing."""
    prepared, make = shared(target="pairs")
    own = folds.Folds(prepared, "pairs", 3)
    texts_, row = prepared.open("pairs", "train").texts
    found = own.of(texts_)
    assert all(len(set(found[row == place].tolist())) == 1 for place in range(7))
    assert set(found.tolist()) == {0, 1, 2}
    assert folds.refused(make().experiment, prepared) == []
    prepared, make = shared("hub", hub=True, target="pairs")
    (problem,) = folds.refused(make().experiment, prepared)
    assert "all training rows of pairs hold texts of one fold" in problem.text


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
