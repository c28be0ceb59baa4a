"""An experiment is checked whole, varied one way, and says all its settings."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tasks
from orchestrator import document, precision
from orchestrator.experiment import ExperimentError, load, override, parse, places

ROOT = Path(__file__).parent.parent
Build = Callable[..., dict[str, Any]]


def problems(tree: dict[str, Any]) -> list[str]:
    with pytest.raises(ExperimentError) as caught:
        parse(tree)
    return caught.value.problems


def changed(build: Build, **changes: Any) -> list[str]:
    return problems(build(**changes))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


GOOD = """\
name: mine
encoder: {model: tiny}
tasks:
  mood: {family: classify, data: {path: here, label: mood}}
"""


def test_every_key_but_name_encoder_and_tasks_has_a_default(tmp_path: Path) -> None:
    experiment = load(written(tmp_path, GOOD))
    assert experiment.mixture.temperature == 2.0
    assert (experiment.train.steps, experiment.train.evaluate_every) == (600, 100)
    assert experiment.tasks["mood"].loss["name"] == "cross_entropy"
    assert problems({}) == [
        "name is missing; it has no default",
        "encoder is missing; it has no default",
        "tasks is missing; expected at least one task (name: settings)",
    ]


def test_resolved_settings_make_the_same_experiment(tmp_path: Path, tiny_experiment: Build) -> None:
    tree = tiny_experiment(
        **{"train.precision": "fp32", "tasks.topic.optimizer": {"name": "sgd", "lr": 0.1}}
    )
    tree["tasks"]["topic"]["data"]["labels"] = ["yes", "1e5", "010", "null", "2020-01-01"]
    experiment = parse(tree)
    assert parse(experiment.resolved()) == experiment
    assert load(written(tmp_path, experiment.yaml())) == experiment
    assert pickle.loads(pickle.dumps(experiment)) == experiment


def test_a_head_inherits_all_but_its_learning_rate(tiny_experiment: Build) -> None:
    tree = tiny_experiment(
        **{
            "optimizer": {"name": "sgd", "lr": 0.2, "momentum": 0.5, "warmup": 0.3},
            "regularization": {"head_dropout": 0.4, "label_smoothing": 0.05},
            "tasks.topic.optimizer.warmup": 0.0,
            "tasks.topic.regularization.head_dropout": 0.2,
        }
    )
    experiment = parse(tree)
    sentiment, topic = experiment.task_optimizer("sentiment"), experiment.task_optimizer("topic")
    assert (sentiment.name, sentiment.lr, sentiment.momentum, sentiment.warmup) == (
        "sgd", 1e-3, 0.5, 0.3,
    )  # fmt: skip
    assert (topic.lr, topic.momentum, topic.warmup) == (1e-3, 0.5, 0.0)
    assert experiment.task_regularization("sentiment").head_dropout == 0.4
    assert experiment.task_regularization("topic").head_dropout == 0.2
    assert experiment.task_regularization("topic").label_smoothing == 0.05


def test_all_problems_are_told_at_once_with_file_line_and_nearest_name(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """\
name: mine
encoder: {modle: tiny}
tasks:
  mood: {family: classify, data: {path: here, labl: mood}, weight: high}
  topic:
    family: classifi
    weigth: 2
optimizer:
  lr: 5e-5
  warmup: 1.5
target: topics
mixture: {shares: {mood: 0.5, topik: 0.6}}
name: again
""",
    )
    with pytest.raises(ExperimentError) as caught:
        load(path, ["train.stepz=3", "tasks.mod.weight=2", "seven"])
    assert str(caught.value).splitlines()[0] == f"15 problems in {path}:"
    assert set(caught.value.problems) == {
        "line 1: name is set again in line 13",
        "'seven' is not a change; expected key=value",
        "command line: tasks.mod.weight leads to no task; did you mean tasks.mood?",
        "line 2: encoder.model is missing; it has no default",
        "line 2: encoder.modle is not a setting; did you mean encoder.model?",
        "line 10: optimizer.warmup is 1.5; expected less than 1.0",
        "command line: train.stepz is not a setting; did you mean train.steps?",
        "line 4: tasks.mood.data.labl is not a setting; did you mean tasks.mood.data.label?",
        "line 4: tasks.mood.weight is 'high'; expected a number",
        "line 6: tasks.topic.family is 'classifi'; there is no family 'classifi'. "
        f"Did you mean 'classify'? Known: {', '.join(tasks.names())}.",
        "line 7: tasks.topic.weigth is not a setting; did you mean tasks.topic.weight?",
        "line 11: target is 'topics'; expected a task; did you mean topic?",
        "line 12: mixture.shares.topik is no task; did you mean mixture.shares.topic?",
        "line 12: mixture.shares names no topic; expected every task",
        "line 12: mixture.shares has the sum 1.1; expected 1",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.steps": 2.5}, "train.steps is 2.5; expected a whole number"),
        ({"train.steps": True}, "train.steps is True; expected a whole number"),
        ({"train.steps": "many"}, "train.steps is 'many'; expected a whole number"),
        ({"tracking.log_model": 1}, "tracking.log_model is 1; expected true or false"),
        ({"train": 3}, "train is 3; expected a mapping (key: value)"),
        ({"optimizer.lr": 0}, "optimizer.lr is 0; expected more than 0.0"),
        ({"optimizer.lr": float("nan")}, "optimizer.lr is nan; expected a finite number"),
        ({"optimizer.betas": [0.9]}, "optimizer.betas.1 is missing; it has no default"),
        (
            {"train.precision": "bf61"},
            "train.precision is 'bf61'; expected 'auto', 'fp32' or 'bf16'; did you mean bf16?",
        ),
        (
            {"train.evaluate_rows": "some"},
            "train.evaluate_rows is 'some'; expected all, or a whole number of at least 1",
        ),
        (
            {"scaling.threads": 0},
            "scaling.threads is 0; expected auto, or a whole number of at least 1",
        ),
        (
            {"train.steps": 5, "train.evaluate_every": 6},
            "train.evaluate_every is 6; expected at most train.steps, which is 5",
        ),
        (
            {"mixture": {"temperature": 2, "uniform": True}},
            "mixture sets temperature and uniform; expected one of temperature, shares, uniform",
        ),
        (
            {"mixture": {"shares": {"topic": 1.0, "sentiment": 0}}},
            "mixture.shares.sentiment is 0.0; expected more than 0 and at most 1",
        ),
        ({"target": "topik"}, "target is 'topik'; expected a task; did you mean topic?"),
        (
            {"score": "topic"},
            "score is 'topic'; expected task/metric, such as sentiment/accuracy",
        ),
        (
            {"score": "topik/accuracy"},
            "score is 'topik/accuracy'; 'topik' is no task; did you mean topic?",
        ),
        (
            {"score": "topic/loss"},
            "score is 'topic/loss'; expected a metric of which more is better",
        ),
        (
            {"deepspeed.config": {"bf16": {"enabled": True}}},
            "deepspeed.config.bf16 is computed here; set train.precision instead",
        ),
        (
            {"deepspeed.config": {"zero_optimization": {"stage": 1}}},
            "deepspeed.config.zero_optimization.stage is computed here; "
            "set deepspeed.zero_stage instead",
        ),
        (
            {"tasks.topic.loss": "cros_entropy"},
            "tasks.topic.loss is 'cros_entropy'; expected a loss that fits the family: "
            "cross_entropy; did you mean cross_entropy?",
        ),
        (
            {"tasks.topic.loss": {"name": "cross_entropy", "gama": 2}},
            "tasks.topic.loss.gama is not a setting; none is known",
        ),
        (
            {"tasks.topic.loss": 3},
            "tasks.topic.loss is 3; expected the name of a loss, or a mapping with name",
        ),
        (
            {"tasks.topic.family": "nowhere.at:All"},
            "tasks.topic.family is 'nowhere.at:All'; family 'nowhere.at:All' cannot be imported: "
            "No module named 'nowhere'",
        ),
        ({"tasks": {}}, "tasks is {}; expected at least one task (name: settings)"),
        ({"tasks": ["a"]}, "tasks is ['a']; expected at least one task (name: settings)"),
        ({"tasks.topic": 3}, "tasks.topic is 3; expected a mapping (key: value)"),
        ({"stages": "lp-ft"}, "stages is 'lp-ft', which is no preset; did you mean lp_ft?"),
        ({"name": "a/b"}, "name is 'a/b'; expected letters, digits, . _ and -"),
    ],
)
def test_a_bad_setting_says_place_found_and_expected(
    tiny_experiment: Build, changes: dict[str, Any], message: str
) -> None:
    assert changed(tiny_experiment, **changes) == [message]


def test_a_task_name_can_stand_in_a_metric_name(tiny_experiment: Build) -> None:
    tree = tiny_experiment()
    tree["tasks"]["my.task"] = tree["tasks"].pop("topic")
    assert problems(tree) == [
        "tasks.my.task is named 'my.task'; expected a letter, then letters, digits, _ and -"
    ]


def test_overrides_are_yaml_and_reach_every_depth(tmp_path: Path) -> None:
    experiment = load(
        written(tmp_path, GOOD),
        [
            "optimizer.lr=5e-5",
            "tasks.mood.optimizer.lr=0.1",
            "tasks.mood.data.labels=[yes, no]",
            "mixture={shares: {mood: 1}, max_epochs: none}",
            "train.evaluate_rows=all",
            "train.patience=none",
            "name=yours",
        ],
    )
    assert experiment.optimizer.lr == 5e-5
    assert experiment.task_optimizer("mood").lr == 0.1
    assert experiment.tasks["mood"].data.labels == ["yes", "no"]
    assert experiment.mixture.shares == {"mood": 1.0}
    assert experiment.train.patience is None
    assert experiment.name == "yours"


def test_an_override_changes_a_copy_and_null_takes_a_task_away(tiny_experiment: Build) -> None:
    tree = tiny_experiment()
    smaller = override(tree, {"tasks.topic": None, "train.steps": 7})
    assert list(parse(smaller).tasks) == ["sentiment"]
    assert list(tree["tasks"]) == ["sentiment", "topic"]
    with pytest.raises(ExperimentError, match=r"tasks\.topik leads to no task; did you mean"):
        override(tree, {"tasks.topik": None})
    with pytest.raises(ExperimentError, match=r"name is 'tiny'; expected a mapping"):
        override(tree, {"name.first": "x"})


def test_a_file_that_cannot_be_read_says_where_and_why(tmp_path: Path) -> None:
    path = written(tmp_path, "name: [mine\nencoder: x\n")
    with pytest.raises(ExperimentError, match=r"line 2, column 8: this is not YAML"):
        load(path)
    with pytest.raises(ExperimentError, match=r"mean .*mine\.yaml\?"):
        load(tmp_path / "mien.yaml")
    with pytest.raises(ExperimentError, match="expected settings"):
        load(written(tmp_path, "- a\n"))
    path.write_bytes(b"name: \xff\n")
    with pytest.raises(ExperimentError, match="cannot be read"):
        load(path)


def test_a_short_run_is_evaluated_at_its_end(tmp_path: Path) -> None:
    assert load(written(tmp_path, GOOD), ["train.steps=30"]).train.evaluate_every == 30


def test_folders_are_looked_up_beside_the_file_then_here_then_in_tlmt_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("TLMT_DATA", str(tmp_path / "data"))
    found = places(tmp_path / "files" / "a.yaml")
    assert found == [tmp_path / "files", tmp_path / "work", tmp_path / "data"]


def test_words_without_quotes_mean_what_yaml_1_2_says() -> None:
    tree = {"texts": ["yes", "5e-5", "010", "1:30", "2020-01-01", "null", "", "true"], "n": 5e-5}
    assert document.value(document.text(tree)) == tree
    assert document.value("[yes, 5e-5, 010, true, ~, -3]") == ["yes", 5e-5, "010", True, None, -3]


def test_precision_follows_from_features_of_every_processor(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("flags\t\t: avx2 avx512_bf16\nflags\t\t: avx2\n")
    assert precision.resolve_precision(0, precision.processor_features(info)) == "fp32"
    info.write_text("flags\t\t: avx2 avx512_bf16\n")
    assert precision.resolve_precision(0, precision.processor_features(info)) == "bf16"
    assert precision.processor_features(tmp_path / "none") == frozenset()
