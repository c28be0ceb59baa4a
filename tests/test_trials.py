"""From an arm and a seed to a trial: what is shared is prepared once, what differs is another."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import written

from orchestrator import stages
from orchestrator.experiment import ExperimentError, parse
from orchestrator.prepare import Prepared
from orchestrator.studies import designs
from orchestrator.studies.trials import Planned, Trials

Build = Callable[..., dict[str, Any]]
Make = Callable[..., Trials]


@pytest.fixture
def make(make_experiment: Build, tiny_prepared: Prepared, tmp_path: Path) -> Make:
    """Make trials of the tiny experiment, changed in what leaves its data as they are."""

    def made(budget: Any = "steps", **changes: Any) -> Trials:
        tree = make_experiment(**changes)
        return Trials(tree, [], tmp_path / "cache", budget=budget, prepared=tiny_prepared)

    return made


ARMS: dict[str, dict[str, Any]] = {
    "as written": {},
    "topic alone": {"tasks.sentiment": None, "target": "topic"},
    "sentiment alone": {"tasks.topic": None},
    "dropout": {"regularization.dropout": 0.3},
    "stages": {"target": "topic", "stages": "lp_ft"},
    "smoothing": {"regularization.label_smoothing": 0.1},
    "own smoothing": {"tasks.topic.regularization": {"label_smoothing": 0.1}},
    "weight": {"tasks.topic.weight": 0.5},
    "shares": {"mixture.shares": {"topic": 0.25, "sentiment": 0.75}},
}


def seen(trials: Trials, planned: Planned) -> dict[str, int]:
    own = planned.experiment
    stretches = stages.of(own, planned.prepared.layers)
    lengths = planned.prepared.under(own).lengths()
    return stages.seen(own, lengths, stretches, (0,), own.train.steps)


def test_arms_that_share_data_share_what_was_prepared(make: Make, tiny_prepared: Prepared) -> None:
    trials = make()
    assert trials.prepared is tiny_prepared, "what is known is not prepared again"
    planned = [trials.plan(changes, seed) for changes in ARMS.values() for seed in (0, 5)]
    assert {id(own.prepared) for own in planned} == {id(tiny_prepared)}


def test_an_arm_sees_its_own_tasks_and_smoothing(make: Make) -> None:
    trials = make()

    def data(arm: str) -> Prepared:
        planned = trials.plan(ARMS[arm], 0)
        return planned.prepared.under(planned.experiment)

    assert data("topic alone").tasks.keys() == {"topic"}
    assert data("smoothing").family("sentiment").label_smoothing == 0.1
    assert data("own smoothing").family("topic").label_smoothing == 0.1
    assert data("own smoothing").family("sentiment").label_smoothing == 0.0
    assert data("as written").family("sentiment").label_smoothing == 0.0
    plain, other = data("as written").tasks["topic"], data("smoothing").tasks["topic"]
    assert (plain.splits, plain.fitted) == (other.splits, other.fitted)


def test_an_arm_sees_its_own_loss(make_experiment: Build, tmp_path: Path) -> None:
    rows = [{"text": f"about {n}", "labels": [["a", "b"][n % 2]]} for n in range(80)]
    written.save(tmp_path / "train.jsonl", rows)
    task = {"family": "multilabel", "data": {"path": str(tmp_path)}}
    trials = Trials(make_experiment(tasks={"marks": task}), [], tmp_path / "cache")
    plain = trials.plan({}, 0)
    focal = trials.plan({"tasks.marks.loss": {"name": "focal", "gamma": 1.5}}, 0)
    same = trials.plan({"tasks.marks.loss": {"name": "binary_cross_entropy"}}, 0)
    assert plain.prepared is focal.prepared
    assert plain.hash == same.hash != focal.hash
    losses = [
        own.prepared.under(own.experiment).family("marks").loss_options for own in (plain, focal)
    ]
    assert losses[0]["name"] == "binary_cross_entropy"
    assert losses[1] == {"name": "focal", "gamma": 1.5}


def test_a_trial_names_its_arm_and_seed_and_nothing_else(make: Make) -> None:
    first, again = make(), make()
    wanted = [(changes, seed) for changes in ARMS.values() for seed in (0, 1)]
    found = [first.plan(changes, seed).hash for changes, seed in wanted]
    assert [again.plan(*one).hash for one in reversed(wanted)] == found[::-1]
    assert len(set(found)) == len(wanted)
    assert all(len(digest) == 64 for digest in found)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"scaling.threads": 2},
        {"scaling.workers": 2},
        {"storage.path": "elsewhere"},
        {"tracking.uri": "sqlite:///other.db"},
        {"train.retries": 7},
        {"regularization.dropout": 0.1},
        {"mixture.temperature": 2.0},
        {"tasks.topic.weight": 1},
    ],
    ids=str,
)
def test_what_changes_no_result_changes_no_hash(make: Make, changes: dict[str, Any]) -> None:
    trials = make()
    assert trials.plan(changes, 1).hash == trials.plan({}, 1).hash
    assert make(**changes).plan({}, 1).hash == trials.plan({}, 1).hash


def test_seeds_share_cut_and_limit_of_the_studys_own_experiment(
    make_experiment: Build, tmp_path: Path
) -> None:
    tree = make_experiment(**{"tasks.topic.data.limit": 20, "train.seed": 3})
    trials = Trials(tree, [], tmp_path / "cache")
    planned = [trials.plan({}, seed) for seed in (0, 3, 9)]
    assert {id(own.prepared) for own in planned} == {id(trials.prepared)}
    assert trials.prepared.tasks["topic"].splits["train"].rows == 20
    assert [own.experiment.train.seed for own in planned] == [0, 3, 9]
    less = [trials.plan({"tasks.topic.data.limit": 10}, seed) for seed in (0, 9)]
    assert less[0].prepared is less[1].prepared
    assert less[0].prepared.tasks["topic"].splits["train"].rows == 10
    assert less[0].prepared.reader_digest == trials.prepared.reader_digest
    assert less[0].hash != planned[0].hash
    for split in ("validation", "test"):
        before, after = (
            p.tasks["topic"].splits[split] for p in (trials.prepared, less[0].prepared)
        )
        assert after.digest == before.digest


def test_the_control_is_another_trial_on_other_labels_of_the_same_texts(make: Make) -> None:
    trials = make(target="topic")
    plan = designs.lay_out(trials._tree, trials.base, "leave-one-out")
    (control,) = (arm for arm in plan.arms if arm.kind == "control")
    (true,) = (arm for arm in plan.arms if arm.name == "topic + sentiment")
    shuffled = [trials.plan(control.changes, seed) for seed in (0, 1)]
    assert shuffled[0].hash != trials.plan(true.changes, 0).hash
    assert shuffled[0].prepared is shuffled[1].prepared, "all seeds have the same labels"
    own, other = (p.tasks["sentiment"] for p in (shuffled[0].prepared, trials.prepared))
    assert own.splits["train"].digest != other.splits["train"].digest
    assert own.splits["train"].token_count == other.splits["train"].token_count
    assert own.splits["validation"].digest == other.splits["validation"].digest
    assert shuffled[0].prepared.reader_digest == trials.prepared.reader_digest


@pytest.mark.parametrize(
    "changes",
    [
        {"tasks.sentiment": None},
        {"mixture": {"shares": {"topic": 0.1, "sentiment": 0.9}}},
        {"mixture.temperature": 5.0, "tasks.sentiment.data.limit": 100},
        {"mixture": {"uniform": True}, "stages": "lp_ft"},
        {"tasks.topic.data.limit": 40},
    ],
    ids=str,
)
def test_the_budget_of_target_examples_is_that_of_the_study(
    make: Make, changes: dict[str, Any]
) -> None:
    settings = {"target": "topic", "train.steps": 120, "train.evaluate_every": 30}
    level = make("target", **settings, mixture={"temperature": 1.0})
    wanted = seen(level, level.plan({}, 0))["topic"]
    for seed in (0, 4):
        planned = level.plan(changes, seed)
        assert seen(level, planned)["topic"] == pytest.approx(wanted, rel=0.02)
        own = planned.experiment.train
        assert math.ceil(own.steps / own.evaluate_every) == 4, "as many looks"
    plain = make(**settings, mixture={"temperature": 1.0}).plan(changes, 0)
    assert plain.experiment.train.steps == 120


def test_a_limit_of_epochs_holds_for_the_steps_that_are_taken(
    make_experiment: Build, tmp_path: Path
) -> None:
    """With a helper less all rows are read sooner; the target alone decides how many steps."""
    tree = make_experiment(**{"target": "topic", "train.steps": 100, "mixture.max_epochs": 2.0})
    tree["tasks"]["other"] = tree["tasks"]["sentiment"]
    without = {"tasks.other": None}
    with pytest.raises(ValueError, match=r"mixture\.max_epochs is 2\.0"):
        Trials(tree, [], tmp_path / "cache").plan(without, 0)
    level = Trials(tree, [], tmp_path / "cache", budget="target")
    wanted = seen(level, level.plan({}, 0))["topic"]
    planned = level.plan(without, 0)
    assert planned.experiment.train.steps < 74
    assert seen(level, planned)["topic"] == pytest.approx(wanted, rel=0.02)


def test_the_budget_of_steps_leaves_steps_alone_and_gives_another_hash(make: Make) -> None:
    settings = {"target": "topic", "train.steps": 120}
    changes = {"tasks.sentiment": None}
    by_steps, by_target = make(**settings), make("target", **settings)
    assert by_steps.plan({}, 0).hash == by_target.plan({}, 0).hash
    assert by_steps.plan(changes, 0).hash != by_target.plan(changes, 0).hash


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tasks.weather": None}, "leads to no task"),
        ({"optimizer.lr": -1}, r"optimizer\.lr"),
        ({"tasks.topic": None, "target": "topic"}, "target"),
        ({"stages": "tlmt"}, "needs a target"),
        ({"stages": [{"name": "x", "train": ["encoder.layer.99"], "steps": 4}]}, "last layer"),
        ({"train.steps": 600, "mixture.max_epochs": 1.0}, r"mixture\.max_epochs is 1\.0"),
        ({"tasks.topic.data.label": "weather"}, "weather"),
        ({"score": "topic/bleu"}, "bleu"),
    ],
    ids=str,
)
def test_an_arm_that_cannot_be_is_refused_with_the_reason(
    make: Make, changes: dict[str, Any], reason: str
) -> None:
    trials = make()
    before = trials.plan({}, 0).hash
    with pytest.raises((ExperimentError, ValueError), match=reason):
        trials.plan(changes, 0)
    assert trials.plan({}, 0).hash == before


def test_what_is_planned_is_a_whole_experiment(make: Make) -> None:
    trials = make()
    planned = trials.plan(ARMS["shares"], 7)
    assert parse(planned.experiment.resolved()).train.seed == 7
    assert planned.experiment.mixture.shares == {"topic": 0.25, "sentiment": 0.75}
