"""Presets of one's own: functions that give stages, checked as lists are."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.experiment import ExperimentError
from tests.looped import MakeWork


def test_a_preset_of_ones_own_is_a_function(work: MakeWork) -> None:
    own = work(stages="tests.test_presets:twice")
    assert [stage.name for stage in own.stages] == ["1", "2"]
    assert [stage.steps for stage in own.stages] == [3, 3]


def twice(tasks: list[str], target: str | None, layers: int) -> list[dict[str, Any]]:
    return [{"name": "1"}, {"name": "2"}]


def unknown(tasks: list[str], target: str | None, layers: int) -> list[dict[str, Any]]:
    return [{"name": "a", "train": ["encodr"]}, {"name": "a"}]


def failing(tasks: list[str], target: str | None, layers: int) -> list[dict[str, Any]]:
    return [{"name": {}["none"]}]


def empty(tasks: list[str], target: str | None, layers: int) -> None:
    """Forget to return."""


def test_a_preset_may_ask_for_layers_that_the_encoder_has(work: MakeWork) -> None:
    assert [s.train for s in work(stages="tests.test_presets:deep").stages] == [
        ("encoder.layer.1",)
    ]


def deep(tasks: list[str], target: str | None, layers: int) -> list[dict[str, Any]]:
    if layers < 2:
        raise ValueError("which needs two layers")
    return [{"name": "a", "train": [f"encoder.layer.{layers - 1}"]}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": "tests.test_presets:unknown"}, "stages.0.train holds 'encodr'"),
        ({"stages": "tests.test_presets:unknown"}, "stages.1.name is 'a', as an earlier one"),
        ({"stages": "tests.test_presets:failing"}, "which fails: KeyError: 'none'"),
        ({"stages": "tests.test_presets:empty"}, "which gives no stage"),
        ({"stages": "json:dumps"}, "which fails: TypeError"),
        ({"stages": "json:none"}, "which cannot be imported"),
        ({"stages": "json:__doc__"}, "which is no function"),
        ({"stages": "json:dumps", "train.stepz": 1}, "train.stepz is not a setting"),
        ({"tasks.topic.family": "json:dumps", "train.stepz": 1}, "train.stepz is not a setting"),
        ({"tasks.topic.family": "json:dumps"}, "'json:dumps' is no family"),
    ],
)
def test_what_is_wrong_with_a_preset_is_told_with_all_else(
    work: MakeWork, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExperimentError) as refused:
        work(**changes)
    assert message in str(refused.value)
