"""A check says what a run will do, and takes one step of it."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from orchestrator.check import Report, check, document, shown
from orchestrator.experiment import ExperimentError, parse
from orchestrator.prepare import Prepared, prepare

Build = Callable[..., dict[str, Any]]
ROLES = {
    "family": "roles",
    "data": {"path": "builtin:demo-roles?size=60", "group": "sent_id"},
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any]], Prepared]:
    """Prepare a tree, with one cache for this file."""
    cache = tmp_path_factory.mktemp("cache")
    return lambda tree: prepare(parse(tree), [], cache, processes=1)


@pytest.fixture
def report(tiny_experiment: Build, prepared: Callable[[dict[str, Any]], Prepared]) -> Report:
    tree = tiny_experiment(**{"tasks.roles": ROLES, "train.steps": 20})
    return check(parse(tree), prepared(tree))


def test_a_check_tells_the_mixture_and_what_each_task_supplies(report: Report) -> None:
    assert [part.task for part in report.parts] == ["roles", "sentiment", "topic"]
    assert sum(part.share for part in report.parts) == pytest.approx(1)
    assert sum(part.examples for part in report.parts) == 20 * report.examples_per_step
    assert sum(part.tokens for part in report.parts) == report.tokens
    assert report.tokens == pytest.approx(20 * 256, rel=0.1)
    for part in report.parts:
        assert part.epochs == pytest.approx(part.examples / part.rows)
        assert abs(part.examples - part.share * 20 * report.examples_per_step) <= 1


def test_the_step_of_a_check_is_real(report: Report) -> None:
    assert sorted(report.losses) == ["roles", "sentiment", "topic"]
    assert all(0.5 < loss < 1.5 for loss in report.losses.values())
    assert report.tokens_per_second > 0
    assert report.seconds > report.tokens / report.tokens_per_second
    assert report.memory_mb > 0


def test_a_report_is_plain_data_and_a_table(report: Report) -> None:
    assert json.loads(json.dumps(document(report)))["steps"] == 20
    page = Console(file=io.StringIO(), width=200, record=True)
    page.print(shown(report))
    text = page.export_text()
    assert all(word in text for word in ("roles", "sentiment", "topic", "epochs", "tokens/s"))


def test_weights_that_rest_are_told_and_cost_less(
    tiny_experiment: Build, prepared: Callable[[dict[str, Any]], Prepared]
) -> None:
    plain, resting = (
        check(parse(tree), prepared(tree))
        for tree in (tiny_experiment(), tiny_experiment(**{"encoder.lora": {"rank": 2}}))
    )
    assert plain.learning == plain.parameters
    assert resting.learning < resting.parameters / 2
    assert resting.flops < plain.flops
    page = Console(file=io.StringIO(), width=200, record=True)
    page.print(shown(resting))
    assert "M learn)" in page.export_text()


def test_a_task_that_has_had_its_epochs_leaves_before_the_end(
    tiny_experiment: Build, prepared: Callable[[dict[str, Any]], Prepared]
) -> None:
    changes = {
        "mixture": {"shares": {"topic": 0.8, "sentiment": 0.2}, "max_epochs": 1},
        "train": {"steps": 26},
    }
    tree = tiny_experiment(**changes)
    sentiment, topic = check(parse(tree), prepared(tree)).parts
    assert topic.steps < sentiment.steps == 26
    assert 1 <= topic.epochs < 1.2


def test_a_score_that_no_family_gives_is_found_before_training(
    tiny_experiment: Build, prepared: Callable[[dict[str, Any]], Prepared]
) -> None:
    tree = tiny_experiment(score="topic/acuracy")
    with pytest.raises(ExperimentError, match=r"did you mean topic/accuracy\?"):
        check(parse(tree), prepared(tree))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"stages": "tlmt", "target": "topic", "stacking": {"folds": 2, "fold_steps": 3}},
            {"fold-1": 3, "fold-2": 3, "joint": 4, "target": 4},
        ),
        ({"stages": "lp_ft"}, {"heads": 4, "joint": 4}),
        ({"stages": [{"name": "heads", "train": ["heads"], "steps": 8}]}, {"heads": 8}),
    ],
)
def test_every_stage_has_its_part(
    tiny_experiment: Build,
    tiny_prepared: Prepared,
    changes: dict[str, Any],
    expected: dict[str, int],
) -> None:
    report = check(parse(tiny_experiment(**{"train.steps": 8, **changes})), tiny_prepared)
    assert {part.stage: part.steps for part in report.parts} == expected
    assert report.steps == sum(expected.values())
