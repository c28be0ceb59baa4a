"""Designs: every arm is a sound experiment, once, and is held against what it should be."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator import presets
from orchestrator.document import override, read
from orchestrator.experiment import Experiment, parse
from orchestrator.studies import screening
from orchestrator.studies.designs import FULL, NAMES, Design, lay_out
from tests.tangled import LISTED, arms, tangled

FOLDER = Path(__file__).parent.parent / "experiments"
TARGETS = {
    "demo": "roles",
    "three_tasks": "roles",
    "ten_tasks": "roles",
    "low_resource_roles": "roles",
    "glue": "rte",
    "images": "objects",
}
HELPING = ("leave-one-out", "add-one-in", "pairs", "subsets")


def written(name: str, target: bool = True) -> dict[str, Any]:
    tree, _, _ = read(FOLDER / f"{name}.yaml")
    return tree | {"target": TARGETS[name]} if target else tree


@cache
def laid(name: str, design: str) -> tuple[dict[str, Any], Design, dict[str, Experiment]]:
    tree = tangled() if name == "tangled" else written(name)
    found = lay_out(tree, parse(tree), design)
    return tree, found, arms(tree, found)


@pytest.mark.parametrize("design", NAMES)
@pytest.mark.parametrize("name", [*TARGETS, "tangled"])
def test_arms_are_sound_experiments_of_which_no_two_are_the_same(name: str, design: str) -> None:
    _, found, own = laid(name, design)
    names = [arm.name for arm in found.arms]
    assert len(set(names)) == len(names)
    dumps = [arm.model_dump(mode="json") for arm in own.values()]
    assert all(one != other for one, other in itertools.combinations(dumps, 2))
    assert len({arm.train.steps for arm in own.values()}) == 1
    assert found.baseline in names
    assert {name for pair in found.comparisons for name in pair} <= set(names)
    assert len(set(found.comparisons)) == len(found.comparisons) > 0
    assert all(one != other for one, other in found.comparisons)


@pytest.mark.parametrize("design", HELPING)
@pytest.mark.parametrize("name", [*TARGETS, "tangled"])
def test_designs_about_helpers_have_their_baselines(name: str, design: str) -> None:
    tree, found, own = laid(name, design)
    target = tree["target"]
    sets = [set(arm.tasks) for arm in own.values() if arm.target == target]
    assert {target} in sets
    for helper in set(tree["tasks"]) - {target}:
        assert {target, helper} in sets
    (equal,) = [
        arm for arm in own.values() if len(arm.tasks) == len(tree["tasks"]) and arm.mixture.uniform
    ]
    assert {task.weight for task in equal.tasks.values()} == {1.0}
    assert equal.weighting.name == "fixed"
    (control,) = [arm for arm in found.arms if arm.kind == "control"]
    shuffled = {task: one.data.shuffled for task, one in own[control.name].tasks.items()}
    assert shuffled.pop(target) is False
    assert list(shuffled.values()) == [True]
    assert not any(
        one.data.shuffled
        for other, arm in own.items()
        if other != control.name
        for one in arm.tasks.values()
    )


@pytest.mark.parametrize("name", [*TARGETS, "tangled"])
def test_each_helper_is_taken_away_and_given_alone(name: str) -> None:
    tree, out, own = laid(name, "leave-one-out")
    every, target = set(tree["tasks"]), tree["target"]
    lost = [every - set(own[other].tasks) for _, other in out.comparisons]
    assert sorted(lost, key=sorted) == [{helper} for helper in sorted(every - {target})]
    assert {one for one, _ in out.comparisons} == {out.baseline}
    assert set(own[out.baseline].tasks) == every
    _, alone, own = laid(name, "add-one-in")
    given = [set(own[one].tasks) - {target} for one, _ in alone.comparisons]
    assert sorted(given, key=sorted) == [{helper} for helper in sorted(every - {target})]
    assert {other for _, other in alone.comparisons} == {f"{target} alone"} == {alone.baseline}


@pytest.mark.parametrize("name", [*TARGETS, "tangled"])
def test_pairs_are_a_whole_matrix_without_a_target_too(name: str) -> None:
    tree = tangled() if name == "tangled" else written(name, target=False)
    found = lay_out(tree, parse(tree), "pairs")
    own, names = arms(tree, found), sorted(tree["tasks"])
    for target, helper in itertools.permutations(names, 2):
        arm = own[f"{target} + {helper}"]
        assert (arm.target, set(arm.tasks)) == (target, {target, helper})
        assert (f"{target} + {helper}", f"{target} alone") in found.comparisons
    assert len(found.comparisons) == len(names) * (len(names) - 1)
    # Each pair, each task alone, all with equal weights, the control.
    assert len(own) == len(names) ** 2 + 2


@pytest.mark.parametrize("name", [*TARGETS, "tangled"])
def test_subsets_are_all_of_few_helpers_and_balanced_of_many(name: str) -> None:
    tree, found, own = laid(name, "subsets")
    target = tree["target"]
    helpers = set(tree["tasks"]) - {target}
    kinds = {arm.name: arm.kind for arm in found.arms}
    sets = [set(arm.tasks) - {target} for name, arm in own.items() if kinds[name] != "control"]
    distinct = {frozenset(one) for one in sets}
    if len(helpers) <= FULL:
        assert len(distinct) == 2 ** len(helpers)
    else:
        drawn = [set(arm.tasks) for name, arm in own.items() if kinds[name] == "arm"]
        assert 2 * len(helpers) <= len(drawn) <= 3 * len(helpers)
        assert {sum(helper in one for one in drawn) for helper in helpers} == {len(drawn) // 2}
    assert {frozenset(), frozenset(helpers)} <= distinct


@pytest.mark.parametrize("size", range(FULL + 1, 16))
def test_a_screening_design_determines_a_linear_model(size: int) -> None:
    names = [f"h{i}" for i in range(size)]
    found = screening.subsets(names)
    assert found == screening.subsets(names)
    assert 2 * size <= len(set(found)) == len(found) <= 3 * size
    table = np.array([[1, *(name in own for name in names)] for own in found])
    assert (2 * table[:, 1:].sum(0) == len(found)).all()
    effects = np.arange(size + 1) - 3.0
    assert np.allclose(np.linalg.lstsq(table, table @ effects)[0], effects)


@pytest.mark.parametrize("name", [*TARGETS, "tangled"])
def test_a_strength_varies_alone_from_nothing_on(name: str) -> None:
    tree, found, _ = laid(name, "regularization")
    curves: dict[str, list[float]] = {}
    for arm in found.arms[1:]:
        (key, value), *others = arm.changes.items()
        curves.setdefault(key, []).append(value)
        assert {other.rpartition(".")[2] for other, _ in others} <= {key.rpartition(".")[2]}
        assert {strength for _, strength in others} <= {value}
    for key, values in curves.items():
        whole = [*values, _at(parse(tree).model_dump(), key)]
        assert (1.0 if key.endswith("layer_decay") else 0) in whole
        assert 2 <= len(values) <= 6
    on = {one for _, one in found.comparisons}
    assert {other for other, _ in found.comparisons} == {found.baseline}
    assert {"dropout = 0", "weight_decay = 0"} <= on
    assert ("label_smoothing = 0" in on) == (name in ("three_tasks", "tangled"))
    assert "mixout = 0" not in on


def _at(tree: Any, key: str) -> float:
    for part in key.split("."):
        tree = tree[part]
    return float(tree)


def test_stages_are_compared_over_as_many_steps() -> None:
    tree = tangled(train=None, stages=LISTED[:1] + LISTED[3:])
    del tree["train"]
    found = lay_out(tree, parse(tree), "stages")
    own = arms(tree, found)
    assert set(presets.PRESETS) < set(own)
    assert {arm.train.steps for arm in own.values()} == {30}
    assert found.baseline == "joint"
    assert ("as written", "joint") in found.comparisons


def test_encoders_are_compared_with_the_one_that_is_written() -> None:
    tree, found, whole = laid("three_tasks", "encoders")
    own = {name: arm.encoder for name, arm in whole.items()}
    assert own.pop(found.baseline).lora is None
    assert {name: lora.lora and lora.lora.rank for name, lora in own.items()} == {
        "LoRA of rank 8": 8,
        "LoRA of rank 32": 32,
        "tiny": None,
    }
    lora = override(tree, {"encoder.lora": {"rank": 8}})
    names = [arm.name for arm in lay_out(lora, parse(lora), "encoders").arms]
    assert names == ["as written", "whole encoder", "LoRA of rank 32", "tiny"]


def test_one_helper_is_enough() -> None:
    tree = written("images")
    names = {design: [arm.name for arm in laid("images", design)[1].arms] for design in HELPING}
    assert names["leave-one-out"][:2] == ["objects + clothes", "without clothes"]
    assert names["add-one-in"][:2] == ["objects alone", "objects + clothes"]
    assert len(names["subsets"]) == 4
    assert set(tree["tasks"]) == {"objects", "clothes"}


def test_a_helper_without_labels_is_no_control() -> None:
    tree = tangled(**{"tasks.a": {"family": "topics", "data": {"path": "x"}}, "score": None})
    tree["stacking"] = {}
    for task, control in {"c": "t + b shuffled", "b": "t + c shuffled"}.items():
        less = override(
            tree, {f"tasks.{task}": None, "mixture": {"uniform": True}, "stages": "tlmt"}
        )
        design = lay_out(less, parse(less), "add-one-in")
        assert [arm.name for arm in design.arms if arm.kind == "control"] == [control]


@pytest.mark.parametrize(
    ("change", "design", "message"),
    [
        ({}, "leave-one-in", r"there is no design 'leave-one-in'; did you mean leave-one-out\?"),
        ({}, "what", "known: leave-one-out, add-one-in, pairs"),
        *(
            ({"target": None}, design, "no target; set target=TASK, one of roles, sentiment, topic")
            for design in HELPING
            if design != "pairs"
        ),
        *(
            ({"tasks.topic": None, "tasks.sentiment": None, "mixture": {}}, design, "add one")
            for design in HELPING
            if design != "pairs"
        ),
        (
            {"tasks.topic": None, "tasks.sentiment": None, "mixture": {}},
            "pairs",
            "there is only 'roles'",
        ),
    ],
)
def test_what_cannot_be_laid_out_is_told(change: dict[str, Any], design: str, message: str) -> None:
    tree = override(written("demo"), change)
    with pytest.raises(ValueError, match=message):
        lay_out(tree, parse(tree), design)
