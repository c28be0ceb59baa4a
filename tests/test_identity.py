"""The hash of a run covers what changes its result, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.experiment import parse
from orchestrator.identity import Contents, arm, difference, fingerprint, ingredients

Build = Callable[..., dict[str, Any]]
CONTENTS = Contents(
    splits={"sentiment": {"train": "a", "validation": "b"}, "topic": {"train": "c"}},
    fitted={"sentiment": {"labels": ["bad", "good"]}, "topic": {"labels": ["arts", "sports"]}},
    encoder="e",
)


def hashed(build: Build, contents: Contents = CONTENTS, **changes: Any) -> str:
    return fingerprint(parse(build(**{"train.precision": "fp32", **changes})), contents)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"scaling": {"workers": 4, "threads": 2, "cpus": 2}},
        {"deepspeed.zero_stage": 0},
        {"tracking": {"uri": "http://127.0.0.1:5000", "experiment": "x", "log_model": False}},
        {"storage.path": "elsewhere"},
        {"train.retries": 0},
        {"tasks.topic.data.path": "another/folder"},
        {"encoder.model": "another/folder"},
        {"optimizer.lr": 5.0e-5},
        {"mixture": {"temperature": 2}},
        {"tasks.topic.loss": "cross_entropy"},
    ],
)
def test_where_and_on_what_a_run_happens_does_not_name_it(
    tiny_experiment: Build, changes: dict[str, Any]
) -> None:
    assert hashed(tiny_experiment, **changes) == hashed(tiny_experiment)


@pytest.mark.parametrize(
    "changes",
    [
        {"train.seed": 1},
        {"train.steps": 6},
        {"train.evaluate_every": 1},
        {"train.patience": 3},
        {"train.precision": "bf16"},
        {"mixture": {"uniform": True}},
        {"mixture.max_epochs": 2},
        {"optimizer.lr": 1.0e-4},
        {"tasks.topic.optimizer.lr": 0.5},
        {"tasks.topic.weight": 0.5},
        {"tasks.topic.data.text": "tokens"},
        {"tasks.topic.regularization.head_dropout": 0.3},
        {"regularization.clip": 0.5},
        {"batch.tokens": 128},
        {"batch.micro_tokens": 128},
        {"tasks.topic": None},
        {"encoder.lora": {"rank": 8}},
        {"deepspeed.config": {"zero_optimization": {"overlap_comm": True}}},
    ],
)
def test_what_changes_a_result_names_it(tiny_experiment: Build, changes: dict[str, Any]) -> None:
    assert hashed(tiny_experiment, **changes) != hashed(tiny_experiment)


def test_rows_labels_and_first_weights_count_by_content(tiny_experiment: Build) -> None:
    first = hashed(tiny_experiment)
    other_rows = {**CONTENTS.splits, "topic": {"train": "d"}}
    other_labels = {**CONTENTS.fitted, "topic": {"labels": ["sports", "arts"]}}
    for contents in (
        Contents(other_rows, CONTENTS.fitted, "e"),
        Contents(CONTENTS.splits, other_labels, "e"),
        Contents(CONTENTS.splits, CONTENTS.fitted, "f"),
    ):
        assert hashed(tiny_experiment, contents) != first


def test_an_arm_is_a_trial_without_its_seed(tiny_experiment: Build) -> None:
    first, second, other = (
        arm(parse(tiny_experiment(**changes)), CONTENTS)
        for changes in ({"train.seed": 0}, {"train.seed": 1}, {"train.steps": 6})
    )
    assert first == second != other


def test_the_order_in_which_tasks_are_written_does_not_count(tiny_experiment: Build) -> None:
    tree = tiny_experiment(**{"train.precision": "fp32"})
    tree["tasks"] = dict(reversed(tree["tasks"].items()))
    assert fingerprint(parse(tree), CONTENTS) == hashed(tiny_experiment)


def test_a_difference_names_each_setting_with_both_values(tiny_experiment: Build) -> None:
    changes = {"optimizer.lr": 0.1, "tasks.topic.weight": 2, "mixture.max_epochs": 3}
    before = ingredients(parse(tiny_experiment()), CONTENTS)
    after = ingredients(parse(tiny_experiment(**changes)), CONTENTS)
    assert sorted(difference(before, after)) == [
        "mixture.max_epochs: null before, 3 now",
        "optimizer.lr: 5e-05 before, 0.1 now",
        "tasks.topic.weight: 1 before, 2 now",
    ]
    assert difference(before, before) == []
    assert difference({"a": {"b": 1}}, {"a": {}}) == [
        "a.b: 1 before, absent now",
        "a: absent before, {} now",
    ]
