"""Settings that do not fit together are told as problems, each with a way out."""

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import staging
from orchestrator.experiment import Experiment, ExperimentError, parse

Build = Callable[..., dict[str, Any]]


def problems(tree: dict[str, Any]) -> list[str]:
    """Parse what is wrong and give what is said of it."""
    with pytest.raises(ExperimentError) as caught:
        parse(tree)
    return caught.value.problems


@pytest.mark.parametrize("found", [2, None, ["stage"], "stage"])
def test_zero_optimization_must_be_a_mapping(tiny_experiment: Build, found: Any) -> None:
    assert problems(tiny_experiment(**{"deepspeed.config": {"zero_optimization": found}})) == [
        f"deepspeed.config.zero_optimization is {found!r}; expected a mapping (key: value); "
        "set the stage by deepspeed.zero_stage"
    ]


@pytest.mark.parametrize(
    ("config", "place", "reason"),
    [
        ({"steps_per_print": 10}, "steps_per_print", "journal"),
        ({"communication_data_type": "bf16"}, "communication_data_type", "reduced in fp32"),
        ({"gradient_allreduce_op": "sum"}, "gradient_allreduce_op", "averaged"),
        (
            {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}},
            "zero_optimization.offload_optimizer",
            "nothing is compiled",
        ),
        (
            {"zero_optimization": {"cpu_offload": True}},
            "zero_optimization.cpu_offload",
            "nothing is compiled",
        ),
    ],
)
def test_a_deepspeed_key_that_cannot_have_its_way_is_refused_with_the_reason(
    tiny_experiment: Build, config: dict[str, Any], place: str, reason: str
) -> None:
    (problem,) = problems(tiny_experiment(**{"deepspeed.config": config}))
    assert problem.startswith(f"deepspeed.config.{place} cannot be set: ")
    assert reason in problem


def test_other_deepspeed_keys_pass(tiny_experiment: Build) -> None:
    config = {"zero_optimization": {"overlap_comm": False}, "wall_clock_breakdown": True}
    experiment = parse(tiny_experiment(**{"deepspeed.config": config}))
    assert experiment.deepspeed.config == config


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("http://ada:pa55word@host:5000", "MLFLOW_TRACKING_PASSWORD"),
        ("https://pa55word@host", "MLFLOW_TRACKING_PASSWORD"),
        ("http://ada:pa55/word@host", "MLFLOW_TRACKING_PASSWORD"),
        ("postgresql://ada:pa55word@host/db", "MLFLOW_TRACKING_URI"),
        ("postgresql://host/db?user=ada&password=pa55word", "MLFLOW_TRACKING_URI"),
    ],
)
def test_a_password_in_the_address_of_mlflow_is_refused_and_not_repeated(
    tiny_experiment: Build, uri: str, remedy: str
) -> None:
    (problem,) = problems(tiny_experiment(**{"tracking.uri": uri}))
    assert problem.startswith("tracking.uri holds a user or password; expected an address without")
    assert remedy in problem
    assert "pa55" not in problem


@pytest.mark.parametrize(
    "uri",
    [
        "http://host:5000",
        "sqlite:////home/ada:x@work/mlflow.db",
        "postgresql://ada@host/db",
        "file:///home/a@b",
        "databricks",
    ],
)
def test_an_address_without_a_password_passes(tiny_experiment: Build, uri: str) -> None:
    experiment: Experiment = parse(tiny_experiment(**{"tracking.uri": uri}))
    assert experiment.tracking.uri == uri


def test_a_task_named_by_a_number_is_a_problem_beside_the_others(tiny_experiment: Build) -> None:
    tree = tiny_experiment(target="topik")
    tree["tasks"][2020] = tree["tasks"].pop("topic")
    assert problems(tree) == [
        "tasks.2020 is named 2020; expected a letter, then letters, digits, _ and -",
        "target is 'topik'; expected a task; known: sentiment, 2020",
    ]


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"optimizer.name": "adafactor"}, "optimizer.name"),
        ({"tasks.topic.optimizer.name": "adafactor"}, "tasks.topic.optimizer.name"),
        (
            {"stages": [{"name": "a", "optimizer": {"name": "adafactor"}}]},
            "stages.0.optimizer.name",
        ),
        ({"stages": "tests.test_coherence:matrices"}, "stages.0.optimizer.name"),
        ({"regularization.mixout": 0.5, "deepspeed.zero_stage": 3}, "regularization.mixout"),
    ],
)
def test_what_needs_whole_matrices_is_refused_where_they_are_sharded(
    tiny_experiment: Build, changes: dict[str, Any], place: str
) -> None:
    found = problems(tiny_experiment(**changes))
    assert found[0].startswith(f"{place} is ")
    assert "deepspeed.zero_stage=" in found[0]
    whole = {"deepspeed.zero_stage": 0 if "adafactor" in found[0] else 2}
    parse(tiny_experiment(**{**changes, **whole}))


def matrices(tasks: list[str], target: str | None, layers: int) -> list[dict[str, Any]]:
    return [{"name": "a", "optimizer": {"name": "adafactor"}}]


GENERATE = {"family": "generate", "data": {"path": "here", "text": "text", "target": "target"}}


def test_r_drop_is_inherited_by_families_that_give_chances_and_refused_by_others(
    tiny_experiment: Build,
) -> None:
    changes = {"regularization.r_drop": 0.5, "tasks.words": GENERATE}
    experiment = parse(tiny_experiment(**changes))
    found = {task: own.regularization.r_drop for task, own in experiment.tasks.items()}
    assert found == {"sentiment": 0.5, "topic": 0.5, "words": 0.0}
    assert parse(experiment.resolved()).tasks == experiment.tasks
    tree = tiny_experiment(**{"tasks.words": {**GENERATE, "regularization": {"r_drop": 1.0}}})
    assert problems(tree) == [
        "tasks.words.regularization.r_drop is 1, but the family generate gives no chances that two "
        "readings could agree on; expected one of classify, multilabel, roles, span, tag. "
        "Leave it out"
    ]


@pytest.mark.parametrize("weighting", ["pcgrad", "torchjd"])
def test_gradients_are_not_combined_where_weights_are_divided(
    tiny_experiment: Build, weighting: str
) -> None:
    changes = {"weighting": weighting, "deepspeed.zero_stage": 3}
    assert problems(tiny_experiment(**changes)) == [
        f"weighting.name is '{weighting}' and deepspeed.zero_stage is 3, which keeps no whole "
        "weights to have gradients of. Set deepspeed.zero_stage=2 or weighting=fixed"
    ]
    assert parse(tiny_experiment(weighting=weighting)).weighting.name == weighting


REGRESS = {"family": "regress", "data": {"path": "here", "target": "target"}}


def test_label_smoothing_is_inherited_where_there_are_labels_and_refused_elsewhere(
    tiny_experiment: Build,
) -> None:
    tree = tiny_experiment(**{"regularization.label_smoothing": 0.1, "tasks.size": REGRESS})
    found = {t: own.regularization.label_smoothing for t, own in parse(tree).tasks.items()}
    assert found == {"sentiment": 0.1, "topic": 0.1, "size": 0.0}
    own = {**REGRESS, "regularization": {"label_smoothing": 0.3}}
    assert problems(tiny_experiment(**{"tasks.size": own})) == [
        "tasks.size.regularization.label_smoothing is 0.3, but the family regress learns numbers, "
        "which have no labels to smooth. Leave it out"
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"labels": ["a", "b"]}, "tasks.size.data.labels is not a setting"),
        (
            {"label": "y", "distribution": "p", "classes": ["a", "b"]},
            "label stands beside distribution, which takes its place",
        ),
    ],
)
def test_keys_that_would_say_nothing_are_refused(
    tiny_experiment: Build, data: dict[str, Any], expected: str
) -> None:
    family = "classify" if "distribution" in data else "regress"
    own = {"family": family, "data": {"path": "here", **data}}
    (found,) = problems(tiny_experiment(**{"tasks.size": own}))
    assert expected in found


@pytest.mark.parametrize(
    ("changes", "place", "expected"),
    [
        ({"regularization.penalties": {"l2_sp": 0.5}}, "penalties.l2_sp", "regularization.l2_sp"),
        ({"regularization.penalties": {"mine": 0.5}}, "penalties.mine", "package.module:function"),
        ({"regularization.penalties": {"a:b": -1.0}}, "penalties.a:b", "is -1"),
        ({"tasks": {"size": REGRESS}, "regularization.r_drop": 1.0}, "r_drop", "acts on none"),
        (
            {"tasks": {"size": REGRESS}, "regularization.label_smoothing": 0.1},
            "label_smoothing",
            "acts on none",
        ),
    ],
)
def test_strengths_that_would_do_nothing_or_harm_are_refused(
    tiny_experiment: Build, changes: dict[str, Any], place: str, expected: str
) -> None:
    found = problems(tiny_experiment(**changes))
    assert len(found) == 1
    assert found[0].startswith(f"regularization.{place} ")
    assert expected in found[0]


def test_what_offloads_nothing_is_allowed(tiny_experiment: Build) -> None:
    own = {"zero_optimization": {"offload_optimizer": {"device": "none"}, "cpu_offload": False}}
    assert parse(tiny_experiment(**{"deepspeed.config": own})).deepspeed.config == own


ROLES = {"family": "roles", "data": {"path": "here"}}
TAGS = {"family": "tag", "data": {"path": "here"}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"stages": "tlmt", "target": "topic"}, []),
        ({"stacking.features": "logits"}, ["stacking is set, but no stage trains `target`"]),
        (
            {"stages": "tlmt", "target": "topic", "stacking.detach": False},
            ["stacking.detach is false, but helpers and encoder rest"],
        ),
        (
            {"stages": "tlmt", "target": "tags", "tasks.tags": TAGS, "tasks.roles": ROLES},
            ["tasks.roles marks predicates in its input"],
        ),
        (
            {"stages": "tlmt", "target": "topic", "tasks.words": GENERATE},
            ["tasks.words is of the family generate, whose outputs cannot be features; the target"],
        ),
    ],
)
def test_what_the_target_stage_does_not_heed_is_told(
    tiny_experiment: Build, changes: dict[str, Any], expected: list[str]
) -> None:
    told = staging.told(parse(tiny_experiment(**changes)))
    assert len(told) == len(expected)
    assert all(note.startswith(start) for note, start in zip(told, expected, strict=True))
