"""Fewer tasks: what names one that is gone forgets it, and the steps stay as many."""

from __future__ import annotations

import math

import pytest

from orchestrator.experiment import parse
from orchestrator.studies.designs import lay_out
from tests.tangled import LISTED, arms, tangled


def test_what_names_a_task_that_is_gone_forgets_it() -> None:
    tree = tangled()
    own = arms(tree, lay_out(tree, parse(tree), "subsets"))
    for arm in own.values():
        assert arm.score is None
        assert math.fsum((arm.mixture.shares or {"t": 1.0}).values()) == pytest.approx(1)
    both = own["t + a"]
    assert both.mixture.shares == pytest.approx({"t": 4 / 7, "a": 3 / 7})
    assert both.stacking.features == {"a": "logits"}
    assert [stage.name for stage in both.stages] == ["helpers", "some", "last"]  # type: ignore[union-attr]
    assert both.stages[0].train == ["encoder", "head:a"]  # type: ignore[union-attr]
    alone = own["t alone"]
    assert [(stage.name, stage.train) for stage in alone.stages] == [  # type: ignore[union-attr]
        ("some", ["encoder", "heads"]),
        ("last", ["head:t"]),
    ]
    assert (alone.mixture.shares, alone.mixture.max_epochs) == (None, None)
    numbers = parse(tangled(target="b", stages="joint", stacking={}))
    design = lay_out(tangled(target="b", stages="joint", stacking={}), numbers, "add-one-in")
    (own_,) = [arm for arm in design.arms if arm.name == "b + c"]
    assert own_.changes["regularization.r_drop"] == 0


@pytest.mark.parametrize("preset", ["tlmt", "helpers_first"])
def test_stages_for_helpers_are_joint_without_any(preset: str) -> None:
    tree = tangled(stages=preset)
    own = arms(tree, lay_out(tree, parse(tree), "add-one-in"))
    assert {name: arm.stages for name, arm in own.items() if len(arm.tasks) == 1} == {
        "t alone": "joint"
    }
    assert {arm.stages for arm in own.values() if len(arm.tasks) > 1} == {preset}


def test_a_stage_without_heads_leaves_its_steps_to_the_last() -> None:
    listed = [LISTED[0], {"name": "all", "steps": 20}]
    tree = tangled(stages=listed, **{"train.steps": 30})
    own = arms(tree, lay_out(tree, parse(tree), "add-one-in"))
    assert [stage.steps for stage in own["t alone"].stages] == [30]  # type: ignore[union-attr]
    assert [stage.steps for stage in own["t + a"].stages] == [10, 20]  # type: ignore[union-attr]
